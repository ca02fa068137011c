"""Bugs on purpose: each takes one rule out of the product, and names the tests that must turn red.

The text that is replaced stands in its file exactly once; where it no longer does, the rule has moved and the entry is to be
written anew. `slow` ones compile kernels or run whole roles, and stay out of the sample that the tests run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in a file below src/isthmus."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: what it is, how it is put in, which tests (a file, or a file and a name) must fail."""

    id: str
    what: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    slow: bool = False


def one(file: str, before: str, after: str) -> tuple[Edit, ...]:
    return (Edit(file, before, after),)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "M1",
        "a feature owner says that it has all it needs before that is on record",
        one(
            "service/courses.py",
            "                await self._one_attempt(start)\n",
            '                self.here.send(self.partners[0], Ended(self.run, ""))\n'
            "                await self._one_attempt(start)\n",
        ),
        ("tests/service/test_jobs.py::test_no_side_is_done_before_the_last_one_has_all_it_needs",),
    ),
    Mutant(
        "M2",
        "the partners are told to go before the attempt is on record",
        one(
            "service/courses.py",
            "                self._begin(attempt, common, burned)\n                self._stage = None\n"
            "                for name in self.partners:\n                    here.send(name, Go(self.run, attempt, common))\n",
            "                self._stage = None\n"
            "                for name in self.partners:\n                    here.send(name, Go(self.run, attempt, common))\n"
            "                self._begin(attempt, common, burned)\n",
        ),
        ("tests/service/test_jobs.py::test_nobody_is_told_of_an_attempt_that_is_not_on_record",),
    ),
    Mutant(
        "M3",
        "randomness that shapes the model is drawn anew in every attempt",
        one(
            "jobs/runner.py",
            "    model, rng = job.model, Rng(digest)\n",
            "    model, rng = job.model, Rng(os.urandom(32))\n",
        )
        + one("jobs/runner.py", "import json\n", "import json\nimport os\n"),
        ("tests/jobs/test_resume.py::test_both_sides_may_die_again_and_again",),
        slow=True,
    ),
    Mutant(
        "M5",
        "the newest barrier counts, and not the oldest",
        one(
            "service/courses.py",
            "            common = min(barrier, *(told.result()",
            "            common = max(barrier, *(told.result()",
        ),
        ("tests/service/test_jobs.py::test_all_go_on_from_the_oldest_barrier_of_any",),
    ),
    Mutant(
        "M6",
        "the label owner is done when its own work is",
        one(
            "service/courses.py",
            "        if common < FINISHED:\n            await self._either(self._all_finished.wait())\n",
            "",
        ),
        ("tests/service/test_jobs.py::test_no_side_is_done_before_the_last_one_has_all_it_needs",),
    ),
    Mutant(
        "M7",
        "indexes are burned after their hints are made",
        one(
            "protocols/hint.py",
            "        self._ledger.burn(first + count)\n        seeds = [secrets.token_bytes(32) for _ in range(count)]\n"
            "        made = [key.prepare([Drawn(seed, place) for seed in seeds]) for place, key in enumerate(self._keys)]\n",
            "        seeds = [secrets.token_bytes(32) for _ in range(count)]\n"
            "        made = [key.prepare([Drawn(seed, place) for seed in seeds]) for place, key in enumerate(self._keys)]\n"
            "        self._ledger.burn(first + count)\n",
        ),
        ("tests/protocols/test_hint.py::test_indexes_are_on_record_before_any_hint_is_made",),
    ),
    Mutant(
        "M8",
        "the pool begins after a restart where it began before",
        one(
            "protocols/hint.py", "        first = self._ledger.next\n", "        first = self._made - count\n"
        ),
        (
            "tests/protocols/test_hint.py::"
            "test_a_party_that_begins_again_goes_on_above_every_index_that_either_has_seen",
        ),
    ),
    Mutant(
        "M9",
        "a label owner that was rolled back is not found by the indexes that the partner has seen",
        one(
            "service/courses.py",
            "            if start.attempt <= stands.attempt or start.burned < stands.burned:\n",
            "            if False:\n",
        ),
        ("tests/service/test_jobs.py::test_a_label_owner_that_was_restored_is_found_and_waits_for_a_person",),
    ),
    Mutant(
        "M29-device",
        "a device works on a second model of a round that it has seen",
        one("device/work.py", "        if known.shown != shown:\n", "        if False:\n"),
        (
            "tests/device/test_device.py::test_a_second_model_for_the_same_round_is_refused_whatever_came_before",
        ),
    ),
    Mutant(
        "M28-device",
        "a device takes the leader's word for how often it took part",
        one("device/work.py", "        if times >= manifest.per_device_max or ", "        if "),
        ("tests/device/test_device.py::test_quota_and_gap_hold_however_often_the_leader_asks",),
    ),
    Mutant(
        "M28-helpers",
        "a device seals its seeds to whatever helpers the leader names",
        one("device/papers.py", '        ("helpers", not set(m.helpers) <= accepted),\n', ""),
        ("tests/device/test_device.py::test_a_task_that_does_not_match_is_refused_and_nothing_leaves",),
    ),
    Mutant(
        "M30-device",
        "a device makes its report anew after every kill",
        (
            Edit("device/work.py", "            if row.state != SEALED:\n", "            if True:\n"),
            Edit(
                "device/store.py",
                "(SEALED, report, control, now_ms, len(report), row.task, row.number, WORKING)",
                "(SEALED, report, control, now_ms, len(report), row.task, row.number, row.state)",
            ),
        ),
        ("tests/device/test_device.py::test_a_receipt_that_is_lost_makes_the_same_bytes_leave_again",),
    ),
    Mutant(
        "M31",
        "whether the attempt is still the last one is asked before the transaction",
        one(
            "store/checkpoints.py",
            '                self._db.execute("BEGIN IMMEDIATE")\n                try:\n'
            '                    if own and self._db.execute("SELECT attempt FROM run").fetchone() != (self._attempt,):\n'
            '                        raise LocalError("superseded")\n',
            '                if own and self._db.execute("SELECT attempt FROM run").fetchone() != (self._attempt,):\n'
            '                    raise LocalError("superseded")\n'
            '                self._db.execute("BEGIN IMMEDIATE")\n                try:\n',
        ),
        ("tests/store/test_checkpoints.py::test_an_attempt_that_begins_just_before_a_write_shuts_it_out",),
    ),
    Mutant(
        "M12",
        "a frame that came before is not looked for",
        one("wire/lane.py", "        if number <= self.accepted:\n", "        if False:\n"),
        ("tests/wire/test_lane.py",),
    ),
    Mutant(
        "M13",
        "the counter of a session starts anew on reconnect",
        one(
            "wire/dialer.py",
            "            try:\n                await self._ping(session)\n",
            "            try:\n                session._counter = 0\n                await self._ping(session)\n",
        ),
        ("tests/wire/test_link_faults.py::test_a_lost_exchange_costs_a_ping_and_no_handshake",),
        slow=True,
    ),
    Mutant(
        "M14",
        "both directions have one key, and the seal names neither sender nor receiver",
        (
            Edit(
                "crypto/seal.py",
                "ChaCha20Poly1305(okm[:32]), ChaCha20Poly1305(okm[32:64])",
                "ChaCha20Poly1305(okm[:32]), ChaCha20Poly1305(okm[:32])",
            ),
            Edit(
                "wire/session.py",
                "        if (header.session, header.sender, header.receiver) != (\n",
                "        if False and (header.session, header.sender, header.receiver) != (\n",
            ),
        ),
        ("tests/wire/test_handshake.py", "tests/wire/test_envelope.py"),
    ),
    Mutant(
        "M15",
        "the header does not name the job",
        one("wire/envelope.py", "            self.job,\n", "            NO_DIGEST,\n"),
        ("tests/wire/test_envelope.py",),
    ),
    Mutant(
        "M16",
        "a rename is not synced with its folder",
        one("base/files.py", "        os.fsync(folder)\n", "        pass\n"),
        (
            "tests/base/test_files.py::test_a_file_is_whole_after_a_cut_at_any_moment_and_lasts_once_it_is_written",
        ),
    ),
    Mutant(
        "M18",
        "burned numbers are written and not synced",
        one("store/checkpoints.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"),
        ("tests/store/test_burned.py::test_every_burned_number_is_synced_and_there_again",),
    ),
    Mutant(
        "M18-store",
        "the database does not sync every commit",
        one("store/sql/engine.py", '"synchronous = FULL"', '"synchronous = NORMAL"'),
        ("tests/store/test_store.py::test_the_sql_store_syncs_every_commit_and_checks_references",),
    ),
    Mutant(
        "M19",
        "a sync that fails is passed over",
        one(
            "base/files.py",
            "            os.fsync(stream.fileno())\n",
            "            try:\n                os.fsync(stream.fileno())\n            except OSError:\n                pass\n",
        ),
        ("tests/base/test_files.py::test_a_disk_that_fails_is_said_and_leaves_the_old_file",),
    ),
    Mutant(
        "M20",
        "a one-time secret is looked at, not taken",
        one("crypto/onetime.py", "return self._box.pop()", "return self._box[-1]"),
        ("tests/crypto/test_onetime.py",),
    ),
    Mutant(
        "M21",
        "the low bits of a mask are not kept clear of the ends",
        one(
            "crypto/lattice/outer.py",
            "        mask: Words = top + low.astype(np.uint64)\n",
            "        mask: Words = top + stream.words(layout.bins) % (np.uint64(1) << gap)\n",
        ),
        ("tests/crypto/test_lattice.py::test_noise_stays_inside_the_zone_and_masks_clear_of_it",),
        slow=True,
    ),
    Mutant(
        "M22",
        "the public matrix, and so H, stays the same for a new binning",
        one(
            "protocols/hint_setup.py",
            'b"isthmus/hint/seed/v1" + digest + nonce + others.tobytes()',
            'b"isthmus/hint/seed/v1" + digest',
        ),
        ("tests/protocols/test_hint.py::test_two_runs_of_one_job_share_no_public_polynomial",),
        slow=True,
    ),
    Mutant(
        "M23",
        "the outer layer keeps its seed and draws new noise under it",
        one(
            "protocols/hint_setup.py",
            'b"isthmus/hint/outer/v1" + shared + bytes([place])',
            'b"isthmus/hint/outer/v1" + digest + bytes([place])',
        ),
        ("tests/protocols/test_hint.py::test_two_runs_of_one_job_share_no_public_polynomial",),
        slow=True,
    ),
    Mutant(
        "M24",
        "a Paillier sum leaves without fresh randomness",
        one(
            "crypto/paillier.py",
            "(_value(_times(low, high, *blinding, n), n) for",
            "(_value((low, high), n) for",
        ),
        (
            "tests/crypto/test_paillier.py::test_the_same_sum_sealed_twice_has_different_bytes_and_the_same_plaintext",
            "tests/crypto/test_paillier.py::test_the_randomness_of_a_sealed_sum_is_not_the_product_of_what_came_in",
        ),
    ),
    Mutant(
        "M25",
        "nobody asks whether the bins of a feature add up",
        one("protocols/boost.py", "            self._check(owners)\n", ""),
        ("tests/protocols/test_boost.py::test_a_feature_owner_whose_bins_do_not_add_up_is_caught",),
        slow=True,
    ),
    Mutant(
        "M25-point",
        "the identity of the group is taken for a point",
        one("crypto/curve.py", "    if not points.any(axis=1).all():\n", "    if False:\n"),
        ("tests/crypto/test_curve.py::test_the_identity_is_refused",),
    ),
    Mutant(
        "M26",
        "a split may leave fewer rows than the floor",
        one(
            "protocols/boost.py",
            "                if min(counted.values()) < p.min_child_rows:\n",
            "                if False:\n",
        ),
        ("tests/protocols/test_boost.py::test_the_joint_model_equals_the_pooled_twin_bit_for_bit",),
        slow=True,
    ),
    Mutant(
        "M27",
        "a helper answers for a report a second time",
        one("protocols/secure_sum.py", "        elif entry.id in seen:\n", "        elif False:\n"),
        (
            "tests/protocols/test_secure_sum.py::test_a_report_is_answered_for_in_one_batch_only",
            "tests/attacks/test_fleet_leader.py::test_k12_a_batch_that_differs_by_one_device_is_refused_a_second_use",
        ),
    ),
    Mutant(
        "M28",
        "a helper counts report ids and not devices that were enrolled",
        one(
            "protocols/secure_sum.py",
            "        if entry.id in known or entry.device in known:\n",
            "        if entry.id in known:\n",
        )
        + one(
            "protocols/secure_sum.py",
            "        devices = {entry.device for entry in seeds}\n",
            "        devices = {entry.id for entry in seeds}\n",
        ),
        (
            "tests/protocols/test_secure_sum.py::test_devices_are_counted_and_not_reports",
            "tests/attacks/test_fleet_leader.py::test_each_helper_alone_refuses",
        ),
    ),
    Mutant(
        "M29",
        "masks do not know which model was shown",
        one(
            "protocols/secure_sum.py",
            "seed, _MASK_LABEL + terms.digest + report)",
            "seed, _MASK_LABEL + terms.task + report)",
        ),
        ("tests/protocols/test_secure_sum.py::test_a_mask_for_another_model_does_not_come_off",),
    ),
    Mutant(
        "M30",
        "a helper draws its noise anew when a batch is asked for again",
        one(
            "protocols/secure_sum.py",
            "            return before[1]\n",
            "            said = Answer.decode(before[1])\n"
            "            words = terms.ring.unpack(said.sum)\n"
            "            terms.ring.add(words, terms.ring.lift(noise(terms.noise_std, terms.length)))\n"
            "            return replace(said, sum=terms.ring.pack(words)).encode()\n",
        ),
        (
            "tests/protocols/test_secure_sum.py::"
            "test_a_batch_asked_again_gets_the_answer_that_it_had_with_its_noise",
        ),
    ),
    Mutant(
        "M33",
        "one route needs no token",
        one(
            "service/gate.py",
            'OPEN = frozenset({"/health", "/ready"})',
            'OPEN = frozenset({"/health", "/ready", "/api/v1/jobs"})',
        ),
        ("tests/service/test_census.py::test_the_table_names_every_route_and_no_other",),
    ),
    Mutant(
        "M34",
        "a role that is too low is noticed and the request goes on",
        one(
            "service/gate.py",
            "            raise _Refusal(error, 403)\n",
            "            _Refusal(error, 403)\n",
        ),
        ("tests/service/test_census.py::test_every_route_answers_everybody_as_the_table_says",),
    ),
    Mutant(
        "M35",
        "words stand for numbers and truth values in config.yaml",
        one(
            "store/folder.py",
            '    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)\n\n    party',
            '    model_config = ConfigDict(extra="forbid", frozen=True)\n\n    party',
        ),
        ("tests/store/test_config.py",),
    ),
    Mutant(
        "M35-job",
        "words stand for numbers and truth values in a job file",
        one(
            "store/schema.py",
            'extra="forbid", strict=True, frozen=True, allow_inf_nan=False',
            'extra="forbid", strict=False, frozen=True, allow_inf_nan=False',
        ),
        ("tests/jobs/test_spec.py",),
    ),
    Mutant(
        "M36",
        "room is made for an array before its size is checked",
        one(
            "wire/message.py",
            "        body = source.take(count * self.dtype.itemsize)\n",
            "        np.empty(count, self.dtype).fill(0)\n        body = source.take(count * self.dtype.itemsize)\n",
        ),
        (
            "tests/wire/test_message.py::test_an_array_that_declares_more_than_is_there_is_refused_before_memory_is_taken",
        ),
    ),
    Mutant(
        "M36-body",
        "a request is read whole before its size is checked",
        one(
            "service/gate.py",
            "        if size_bytes > most:\n            raise _too_large(most)\n        more",
            "        if size_bytes > 100 * most:\n            raise _too_large(most)\n        more",
        ),
        ("tests/service/test_gate.py::test_no_more_of_a_body_is_read_than_is_needed_to_refuse_it",),
    ),
    Mutant(
        "M37",
        "what a compressed file unpacks to has no bound",
        one(
            "table/parquet.py",
            "        if unpacked > _MAX_RATIO * max(size_bytes, 1 << 16):\n",
            "        if False:\n",
        ),
        (
            "tests/table/test_read_parquet.py::test_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused",
        ),
    ),
    Mutant(
        "M38",
        "an array file is opened, pickles in it too",
        one(
            "table/files.py",
            "        kind = _KINDS[suffix]\n",
            "        kind = _KINDS[suffix]\n"
            "        if (raw.read(6) or b'').startswith(b'\\x93NUMPY'):\n"
            "            import numpy\n\n"
            "            numpy.load(path, allow_pickle=True)\n"
            "        raw.seek(0)\n",
        ),
        ("tests/house/test_code.py::test_no_file_can_run_code_that_comes_with_data",),
    ),
    Mutant(
        "M38-pickle",
        "a file that begins as a pickle is unpickled",
        one(
            "table/files.py",
            "        _check_magic(raw, path.name, kind, before.st_size)\n",
            "        __import__('pickle').loads(raw.read()) if raw.read(1) == b'\\x80' and not raw.seek(0) else raw.seek(0)\n"
            "        _check_magic(raw, path.name, kind, before.st_size)\n",
        ),
        (
            "tests/service/test_hostile_files.py::test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing",
        ),
    ),
    Mutant(
        "M39",
        "a feature owner's half keeps the count of every bin",
        one(
            "learn/tree.py",
            '            "role": "feature-owner",\n',
            '            "role": "feature-owner",\n            "cover": [c.count for c in self.columns],\n',
        ),
        ("tests/house/test_messages.py::test_a_half_of_a_model_holds_no_count_no_cover_and_no_gain",),
    ),
    Mutant(
        "M40",
        "gradients of single rows cross with the indexes of the vectors",
        one(
            "protocols/hint.py",
            '    KIND: ClassVar[int] = 0x0708\n    indexes: Annotated[NDArray[np.uint32], Array("u4", None)]\n',
            '    KIND: ClassVar[int] = 0x0708\n    indexes: Annotated[NDArray[np.uint32], Array("u4", None)]\n'
            '    gradients: Annotated[NDArray[np.float64], Array("f8", None)] = np.zeros(0)  # noqa: RUF009\n',
        ),
        ("tests/house/test_messages.py",),
    ),
    Mutant(
        "M41",
        "a line of the audit log is not bound to the one before it",
        one(
            "store/audit.py",
            "            before=last.own_digest().hex() if last else FIRST,\n",
            "            before=FIRST,\n",
        ),
        ("tests/store/test_store.py::test_lines_of_the_audit_log_are_numbered_chained_and_there_again",),
    ),
    Mutant(
        "M41-check",
        "the check of the audit log does not look for a line that is left out",
        one(
            "store/audit.py",
            "        if self._last_digest is not None and line.before != self._last_digest:\n",
            "        if False:\n",
        ),
        ("tests/store/test_audit.py",),
    ),
    Mutant(
        "M42",
        "a one-time secret shows itself",
        one("crypto/onetime.py", '        return "OneTime()"\n', '        return f"OneTime({self._box})"\n'),
        ("tests/crypto/test_onetime.py::test_a_one_time_secret_has_no_readable_form",),
    ),
    Mutant(
        "M42-log",
        "the token of a node is in its log",
        one(
            "service/serve.py",
            "        app = make_app(node, ",
            "        logging.getLogger(__name__).warning(folder.token())\n        app = make_app(node, ",
        ),
        ("tests/e2e/test_canaries.py::test_nothing_that_was_planted_lies_outside_its_place",),
        slow=True,
    ),
    Mutant(
        "M42-invitation",
        "the secret of an invitation shows itself",
        one("store/records.py", "    secret: bytes = field(repr=False)\n", "    secret: bytes\n"),
        ("tests/house/test_secrets.py::test_no_secret_is_in_a_repr",),
    ),
)

WAITING: dict[str, str] = {
    "M4": "high-water mark in memory only: the line keeps none, a node says again what follows from its store",
    "M17": "row before blob: blobs beside the database",
}
"""Bugs that cannot be put in yet, and what they wait for."""
