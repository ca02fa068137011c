"""Temporary nodes on this machine: real `isthmus serve` processes on loopback, with TLS, joined and confirmed.

The first party listens, the others call it. Everything lives in one folder; the nodes end when this process ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from isthmus.base.errors import LocalError, PolicyError
from isthmus.client.client import Client, JobView
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import make_certificate

SERVE = (sys.executable, "-m", "isthmus.cli.main")
END_S = 20.0


@dataclass(slots=True)
class TemporaryNode:
    """One running node."""

    party: str
    folder: NodeFolder
    process: subprocess.Popen[bytes]
    client: Client


class TemporaryNodes:
    """Use it in a `with`. `data` are the folders whose files may be registered, `command` starts the program."""

    def __init__(
        self,
        parties: Sequence[str],
        root: Path,
        data: Sequence[Path],
        language: str = "en",
        command: Sequence[str] = SERVE,
    ) -> None:
        self._parties = parties
        self._root = root
        self._data = [str(folder.resolve()) for folder in data]
        self._language = language
        self._command = command
        self._launched: list[subprocess.Popen[bytes]] = []
        self.nodes: list[TemporaryNode] = []

    def __enter__(self) -> Self:
        try:
            folders = [self._create(party, listens=place == 0) for place, party in enumerate(self._parties)]
            processes = [self._launch(folder) for folder in folders]
            for party, folder, process in zip(self._parties, folders, processes, strict=True):
                self.nodes.append(self._ready(party, folder, process))
            for other in self.nodes[1:]:
                join(self.nodes[0].client, other.client)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the nodes and waits for them."""
        for node in self.nodes:
            node.client.close()
        end(*self._launched)
        self.nodes.clear()
        self._launched.clear()

    def node(self, party: str) -> TemporaryNode:
        return next(node for node in self.nodes if node.party == party)

    def restart(self, party: str) -> None:
        """Starts a node again whose process has ended, on the same folder."""
        node = self.node(party)
        node.client.close()
        end(node.process)
        again = self._ready(party, node.folder, self._launch(node.folder))
        node.process, node.client = again.process, again.client

    def run(
        self,
        document: str,
        test_ids: Path | None,
        wait: Callable[[], None],
        on_change: Callable[[JobView], None],
    ) -> JobView:
        """Proposes a job at the first party, has every other accept it, and follows it to its end."""
        first = self.nodes[0].client
        job_id = first.propose(document, None if test_ids is None else str(test_ids.absolute()))["id"]
        for other in self.nodes[1:]:
            while not any(job["id"] == job_id for job in other.client.jobs()):
                if first.job(job_id)["state"] != "proposed":
                    break
                wait()
            else:
                other.client.accept_job(job_id, grant=True)
        return first.follow(job_id, wait, on_change)

    def _create(self, party: str, *, listens: bool) -> NodeFolder:
        place = f"127.0.0.1:{_free_port()}" if listens else None
        config = {
            "party": party,
            "mode": "direct" if listens else "dial-out",
            "listen": place,
            "address": f"https://{place}" if listens else None,
            "data": self._data,
        }
        return NodeFolder.create(self._root / party, make_config(config, party), make_certificate)

    def _launch(self, folder: NodeFolder) -> subprocess.Popen[bytes]:
        with (folder.home / "node.log").open("ab") as log:
            process = subprocess.Popen(
                [*self._command, "--home", str(folder.home), "-o", "json", "serve", "--until-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._launched.append(process)
        return process

    def _ready(self, party: str, folder: NodeFolder, process: subprocess.Popen[bytes]) -> TemporaryNode:
        """Waits for the line that a node writes once it answers."""
        assert process.stdout is not None
        if not json.loads(process.stdout.readline() or b"null"):
            raise LocalError("not_running", path=str(folder.home))
        return TemporaryNode(party, folder, process, Client(folder, self._language))


def join(inviter: Client, other: Client) -> None:
    """Invites, accepts, compares the words as two people would, and confirms on both sides."""
    accepted = other.accept_partner(inviter.invite())
    name = other.node()["party"]
    if accepted["reply"]:
        inviter.accept_partner(accepted["reply"])
    heard = next(p["words"] for p in inviter.partners() if p["name"] == name)
    if heard != accepted["words"]:
        raise PolicyError("words_differ", partner=name)
    inviter.confirm_partner(name, accepted["words"])
    other.confirm_partner(accepted["name"], heard)


def end(*processes: subprocess.Popen[bytes]) -> None:
    """Closes what the processes watch, waits for them, and kills those that do not go."""
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
    for process in processes:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
