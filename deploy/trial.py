"""The desks of compose.trial.yaml: two parties that join each other and train the demo without anybody at the keyboard.

    trial.py tables PARTY DATA              the tables of one party into its folder
    trial.py desk river-bank PHONE DATA     invites, reads out its words, proposes the job and follows it
    trial.py desk data-co PHONE DATA        accepts, reads out its words, accepts the job

PHONE is a folder that both desks see. For anything but a trial the words are read by people, over a line that no one
between the nodes controls.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from isthmus.base.document import read_document
from isthmus.client import Client
from isthmus.jobs.spec import apply_settings
from isthmus.scenarios import credit_card
from isthmus.scenarios.credit_card import data as real
from isthmus.store.folder import NodeFolder
from isthmus.table import file_digest

SEED = 20260401
BANK, PARTNER = "river-bank", "data-co"
WAIT_S, POLL_S = 300.0, 0.5

T = TypeVar("T")


def tables(party: str, data: Path) -> None:
    """Both halves follow from the seed; each party keeps its own."""
    with tempfile.TemporaryDirectory() as scratch:
        made = real.write_tables(Path(scratch), SEED)
        for path in (made.label_csv, made.test_ids_csv) if party == BANK else (made.feature_csv,):
            shutil.copyfile(path, data / path.name)


def bank_desk(node: Client, phone: Path, data: Path, changes: tuple[str, ...]) -> int:
    tell(phone / "invitation", node.invite())
    join(node, PARTNER, phone)
    node.add_dataset("card-holders", str(data / "bank.csv"), "phone", form="phone-cn", label="bad")
    hear(phone / "table")
    template = Path(credit_card.__file__).with_name("job.yaml")
    document = read_document(template.read_bytes(), template.name)
    document["split"]["test_ids_sha256"] = file_digest(data / "test_ids.csv")
    job = node.propose(json.dumps(apply_settings(document, changes)), str(data / "test_ids.csv"))
    tell(phone / "job", job["id"])
    ended = node.follow(job["id"], lambda: time.sleep(POLL_S), lambda seen: say(seen["state"]))
    metrics = (ended["result"] or {}).get("metrics", {})
    say(
        json.dumps({"job": ended["id"], "state": ended["state"], "metrics": metrics, "error": ended["error"]})
    )
    return 0 if ended["state"] == "done" else 1


def partner_desk(node: Client, phone: Path, data: Path) -> int:
    node.accept_partner(hear(phone / "invitation"))
    join(node, BANK, phone)
    node.add_dataset("habits", str(data / "partner.csv"), "phone", form="phone-cn")
    tell(phone / "table", "habits")
    number = hear(phone / "job")
    until("the proposal", lambda: any(job["id"] == number for job in node.jobs()))
    node.accept_job(number, grant=True)
    ended = node.follow(number, lambda: time.sleep(POLL_S), lambda seen: say(seen["state"]))
    return 0 if ended["state"] == "done" else 1


def join(node: Client, other: str, phone: Path) -> None:
    """Reads out the own words, compares those of the other, confirms, and waits for the line."""
    own = node.node()["party"]
    tell(phone / f"words-of-{own}", " ".join(until("the partner", lambda: known(node, other))["words"]))
    node.confirm_partner(other, hear(phone / f"words-of-{other}").split())
    until("the line", lambda: known(node, other)["connected"])
    say(f"joined {other}")


def known(node: Client, name: str) -> Any:
    return next((partner for partner in node.partners() if partner["name"] == name), None)


def tell(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def hear(path: Path) -> str:
    until(path.name, path.exists)
    return path.read_text(encoding="utf-8")


def until(what: str, holds: Callable[[], T]) -> T:
    deadline = time.monotonic() + WAIT_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            sys.exit(f"waited {WAIT_S:.0f} s for: {what}")
        time.sleep(POLL_S)
    return found


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    verb, party, *rest = sys.argv[1:]
    if verb == "tables":
        tables(party, Path(rest[0]))
        return 0
    phone, data, changes = Path(rest[0]), Path(rest[1]), tuple(rest[2:])
    with Client(NodeFolder(Path(os.environ["ISTHMUS_HOME"]))) as node:
        return bank_desk(node, phone, data, changes) if party == BANK else partner_desk(node, phone, data)


if __name__ == "__main__":
    sys.exit(main())
