"""The job file: strict reading, one resolved form, one hash. (A8, T12)"""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.canonical import canonical_json
from isthmus.base.document import MAX_BYTES, read_document
from isthmus.base.errors import ConfigError
from isthmus.jobs.engine import Facts, Share
from isthmus.jobs.spec import apply_settings, job_digest, load_job, parse_job, resolve
from isthmus.learn.parameters import BoostedTrees
from tests.jobs.examples import TEXT, document


def refused(*settings: str, text: str = TEXT) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_job(apply_settings(read_document(text.encode(), "job.yaml"), settings))
    return caught.value


def test_defaults_are_filled_in_and_every_auto_is_frozen() -> None:
    job = load_job(TEXT.encode())
    resolved = resolve(job)
    assert isinstance(job.model, BoostedTrees)
    assert resolved["model"]["trees"] == 100
    assert resolved["split"] == {
        "by": "hash", "train": 0.7, "valid": 0.15, "test": 0.15, "test_ids_sha256": None
    }  # fmt: skip
    assert (resolved["align"]["method"], resolved["crypto"]["engine"]) == ("ecdh", "lattice-hint")
    assert "auto" not in json.dumps(resolved)


def test_a_resolved_job_names_its_engine_and_its_vectors_whatever_another_node_knows() -> None:
    few = Facts(200, (Share("data-co", 2, "named"),))
    many = Facts(1_000_000, (Share("data-co", 2, "registered"),))
    tiny = apply_settings(document(), ["trees=2", "depth=2", "max_bins=4"])
    signed = resolve(parse_job(tiny), few)
    assert (signed["crypto"]["engine"], signed["crypto"]["vectors_max"]) == ("paillier", 0)
    assert resolve(parse_job(tiny), many)["crypto"]["engine"] == "lattice-hint"
    for known in (None, few, many):
        assert resolve(parse_job(signed), known) == signed
    large = resolve(parse_job(document()), Facts(1_000_000, (Share("data-co", 50, "assumed"),)))
    assert large["crypto"]["vectors_max"] == 801 * 4
    for known in (None, few, many):
        assert resolve(parse_job(large), known) == large


def test_another_engine_or_another_budget_is_another_hash() -> None:
    changes: list[dict[str, Any]] = [
        {"engine": "auto"},
        {"engine": "paillier"},
        {"engine": "lattice-hint", "vectors_max": 3205},
        {"engine": "lattice-hint", "vectors_max": 3204},
    ]
    hashes = [job_digest(resolve(parse_job(document(crypto=change)))) for change in changes]
    assert len(set(hashes[:3])) == 3
    assert hashes[3] == hashes[0]


def test_a_resolved_job_resolves_to_itself_and_keeps_its_hash_through_json() -> None:
    resolved = resolve(load_job(TEXT.encode()))
    again = resolve(parse_job(json.loads(canonical_json(resolved))))
    assert canonical_json(again) == canonical_json(resolved)
    assert job_digest(again) == job_digest(resolved)
    assert len(job_digest(resolved)) == 32


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _leaves(part, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for at, part in enumerate(value) for leaf in _leaves(part, (*path, at))]
    return [path]


def test_a_change_of_any_field_is_another_hash() -> None:
    resolved = resolve(load_job(TEXT.encode()))
    seen = {job_digest(resolved)}
    for path in _leaves(resolved):
        changed = json.loads(json.dumps(resolved))
        part = changed
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = "another" if part[path[-1]] != "another" else "yet another"
        seen.add(job_digest(changed))
    assert len(seen) == 1 + len(_leaves(resolved))


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("trees=0", "model.trees"),
        ("trees=1000000000", "model.trees"),
        ("trees=true", "model.trees"),
        ('trees="50"', "model.trees"),
        ("trees=1e999", "model.trees"),
        ("trees=2.5", "model.trees"),
        ("learning_rate=0", "model.learning_rate"),
        ("learning_rate=-1", "model.learning_rate"),
        ("learning_rate=.nan", "model.learning_rate"),
        ("learning_rate=.inf", "model.learning_rate"),
        ("l2=false", "model.l2"),
        ("depth=64", "model.depth"),
        ("objective=ranking", "model.objective"),
        ("paillier_bits=512", "crypto.paillier_bits"),
        ("engine=none", "crypto.engine"),
        ("vectors_max=-1", "crypto.vectors_max"),
        ("vectors_max=1000001", "crypto.vectors_max"),
        ("gradient_bits=6", "crypto.gradient_bits"),
        ("split_reveal=all", "crypto.split_reveal"),
        ("align.min_rows=99", "align.min_rows"),
        ("learns=label_owner", "align.learns"),
        ("max_bins=256", "features.binning.max_bins"),
        ("min_bin_rows=19", "privacy.min_bin_rows"),
        ("seed=2147483648", "run.seed"),
        ("seed=-1", "run.seed"),
        ("seed=99999999999999999999", "run.seed"),
        ("purpose=short", "metadata.purpose"),
        ("name=Card", "metadata.name"),
        ("valid_until=2026-13-01", "metadata.valid_until"),
        ("feature_owners=[]", "parties.feature_owners"),
        ("feature_owners=[a, b, c, d]", "parties.feature_owners"),
        ("feature_owners=data-co", "parties.feature_owners"),
        ("label_owner=data-co", "parties"),
        ("label_owner=other", "inputs"),
        ("inputs.bank.dataset=apps", "inputs.bank.dataset"),
        ("inputs.bank.keys=[[{column: a, as: md5}]]", "inputs.bank.keys[0][0].as"),
        ("inputs.bank.keys=[[{column: a}, {column: b}]]", "inputs.bank.keys[0]"),
        ("valid=0", "split.valid"),
        ("train=0.9", "split"),
        ("split.test=0.01", "split.test"),
        ("languages=[zh, zh]", "report.languages"),
        ("languages=[fr]", "report.languages[0]"),
        ("positive=true", "sample.positive"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_with_its_path(setting: str, field: str) -> None:
    error = refused(setting)
    assert (error.code, error.fields["field"]) == ("out_of_bounds", field)
    assert error.fields["allowed"]


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ("foo: 1", "foo"),
        ("model: {tres: 1}", "model.tres"),
        ("features: {binning: {bins: 1}}", "features.binning.bins"),
        ("align: {method: ecdh, key: 1}", "align.key"),
        ("crypto: {form: 1}", "crypto.form"),
    ],
)
def test_an_unknown_field_is_refused_with_its_path_and_what_is_known(extra: str, field: str) -> None:
    error = refused(text=TEXT + extra)
    assert (error.code, error.fields["field"]) == ("unknown_field", field)
    assert error.fields["known"]


def test_a_field_goes_by_its_name_in_the_file_only() -> None:
    assert refused(text=TEXT.replace("as: phone-cn", "form: phone-cn", 1)).code == "unknown_field"
    assert refused(text=TEXT.replace("apiVersion", "api_version")).code == "unknown_field"


def test_a_missing_field_is_named() -> None:
    error = refused(text=TEXT.replace("label: bad", ""))
    assert (error.code, error.fields["field"]) == ("missing_field", "sample.label")
    error = refused("split.by=ids")
    assert (error.code, error.fields["field"]) == ("missing_field", "test_ids_sha256")


def test_a_split_by_ids_has_no_shares_of_train_and_test() -> None:
    sha = "a" * 64
    job = parse_job(
        document(split={"by": "ids", "valid": 0, "test_ids_sha256": sha}, model={"stop_after": 0})
    )
    assert (job.split.train, job.split.test, job.split.valid) == (None, None, 0)
    assert resolve(parse_job(resolve(job))) == resolve(job)
    both = document(split={"by": "ids", "train": 0.5, "test_ids_sha256": sha})
    with pytest.raises(ConfigError) as caught:
        parse_job(both)
    assert caught.value.fields["field"] == "split.train"


def test_a_setting_finds_its_field_by_leaf_or_path() -> None:
    settings = ["trees=7", "binning.max_bins=16", "inputs.data-co.columns.exclude=[a, b]", "run.seed=3"]
    job = parse_job(apply_settings(document(), settings))
    assert (job.model.trees, job.features.binning.max_bins, job.run.seed) == (7, 16, 3)
    assert job.inputs["data-co"].columns.exclude == ("a", "b")


def test_a_setting_that_is_unknown_or_could_mean_two_fields_is_refused() -> None:
    assert refused("tres=1").code == "unknown_field"
    error = refused("min_rows=200")
    assert error.code == "ambiguous_field"
    assert error.fields["known"] == "align.min_rows, features.binning.min_rows"
    assert refused("trees").code == "bad_document"


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "a: !!python/object/apply:os.system [true]",
        "a: !!str 1",
        "kind: Job\nkind: Job",
        "a: " + "[" * 10_000,
        "a: " + "{a: " * 40 + "1" + "}" * 40,
        'a: "\\ud800"',
        "a: \0",
        "- a",
        "a: 1\n---\nb: 2",
        "? [a]\n: 1",
        "a: [1",
        "",
        "a" * (MAX_BYTES + 1),
    ],
)
def test_a_document_that_is_more_than_data_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(text.encode(), "job.yaml")
    assert caught.value.code == "bad_document"


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(ConfigError):
        read_document(b"a: \xff\xfe", "job.yaml")


def test_plain_words_stay_words() -> None:
    read = read_document(b"{a: no, b: 2026-01-02, c: 1_000, d: 0x10, e: 12:30, f: 010, g: ~, h: 'true'}", "x")
    assert read == {
        "a": "no", "b": "2026-01-02", "c": "1_000", "d": "0x10", "e": "12:30", "f": 10, "g": None, "h": "true"
    }  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(resolve(load_job(TEXT.encode())))), json_values)
def test_whatever_stands_in_a_section_it_is_taken_or_refused(section: str, value: Any) -> None:
    with contextlib.suppress(ConfigError):
        job_digest(resolve(parse_job(document(**{section: value}))))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(read_document(data, "x"), dict)
