"""Puts libsodium into the environment as a file. Runs while an image is built.

rbcl writes the library to the temporary folder at every start and loads it from there, which fails where that folder is mounted
noexec, as it is in containers. But it looks for a module `_sodium` first.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from rbcl._sodium import sodium_bs

# An empty name: whoever would remove the temporary file after loading finds none.
MODULE = '''\
"""libsodium as rbcl carries it, from a file of this image."""

from ctypes import cdll

_sodium = cdll.LoadLibrary({path!r})
_sodium._name = ""
'''


def main() -> None:
    folder = Path(sysconfig.get_path("purelib"))
    library = folder / "libsodium-of-rbcl.so"
    library.write_bytes(sodium_bs)
    (folder / "_sodium.py").write_text(MODULE.format(path=str(library)), encoding="utf-8")


if __name__ == "__main__":
    main()
