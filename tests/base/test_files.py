"""Files that are whole after a power cut at any moment, and on disk once `write_file` has returned. (D1, D2)"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.errors import LocalError
from isthmus.base.files import write_file

OLD, NEW = b"old", b"new, and longer"


@dataclass
class Disk:
    """What was asked of the disk, and what a power cut would leave of one file.

    Of a file that was not synced before it was renamed, nothing is sure; a rename that was not synced with its folder may be
    undone.
    """

    path: Path
    asked: list[tuple[str, str]] = field(default_factory=list)

    def left(self, asked: list[tuple[str, str]]) -> set[bytes]:
        """Everything that may stand in the file after these requests and a cut."""
        renamed = [at for at, (what, name) in enumerate(asked) if what == "rename" and name == str(self.path)]
        if not renamed:
            return {OLD}
        whole = any(what == "sync" and name != str(self.path.parent) for what, name in asked[: renamed[0]])
        lasting = ("sync", str(self.path.parent)) in asked[renamed[0] :]
        return ({NEW} if whole else {NEW, b""}) | (set() if lasting else {OLD})


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk(tmp_path / "file")
    found.path.write_bytes(OLD)
    sync, rename = os.fsync, os.replace

    def synced(handle: int) -> None:
        sync(handle)
        found.asked.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))

    def renamed(aside: Any, path: Any) -> None:
        rename(aside, path)
        found.asked.append(("rename", str(path)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return found


def test_a_file_is_whole_after_a_cut_at_any_moment_and_lasts_once_it_is_written(disk: Disk) -> None:
    write_file(disk.path, NEW)
    for stop in range(len(disk.asked) + 1):
        assert disk.left(disk.asked[:stop]) <= {OLD, NEW}, disk.asked[:stop]
    assert disk.left(disk.asked) == {NEW}


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_said_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    def fails(*words: object) -> None:
        raise OSError(number, os.strerror(number))

    class Full:
        def __init__(self, handle: int) -> None:
            self.handle = handle

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *ended: object) -> None:
            os.close(self.handle)

        write = fails

    path = tmp_path / "file"
    path.write_bytes(OLD)
    if failing == "write":
        monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(handle))
    else:
        monkeypatch.setattr(os, failing, fails)
    with pytest.raises(LocalError) as caught:
        write_file(path, NEW)
    assert caught.value.code in ("disk_error", "disk_full")
    assert path.read_bytes() == OLD
