"""Runs what lies in an image as its configuration says: its user, a read-only root, no new privileges, a /tmp of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UID = 10001

# In a mount namespace of its own: $1 is the root, then pairs SOURCE TARGET up to --, then the command.
CONFINE = """\
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero urandom random; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs unshare --root="$root" --wd="$wd" --setgid="$gid" --setuid="$uid" -- "$@"
"""


@dataclass(frozen=True)
class Container:
    """The root file system of an image, its configuration, and what is mounted in it."""

    root: Path
    config: dict[str, Any]
    mounts: tuple[tuple[Path, str], ...] = ()

    def command(self, *arguments: str, entry: Sequence[str] = ()) -> list[str]:
        uid, gid = self.config["User"].split(":")
        pairs = [str(part) for pair in self.mounts for part in pair]
        script = f"uid={uid} gid={gid} wd={shlex.quote(self.config['WorkingDir'])}\n{CONFINE}"
        program = [*(entry or self.config["Entrypoint"]), *arguments]
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return [*apart, "sh", "-c", script, "sh", str(self.root), *pairs, "--", *program]

    @property
    def environment(self) -> dict[str, str]:
        """That of the image. The search path ends with where the tools of this machine are, which start the command."""
        set_by_image = dict(line.split("=", 1) for line in self.config["Env"])
        return set_by_image | {"PATH": f"{set_by_image['PATH']}:{os.environ['PATH']}"}

    def run(
        self, *arguments: str, entry: Sequence[str] = (), timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, entry=entry),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
