"""Memory of a process that carries large messages: counted in pages that the system had to hand out."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from isthmus.wire.heap import ENVIRONMENT

PAGES = """
import resource, sys
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for k in range(40):
        b"".join([b"m" * 2**20, b"n" * 2**20])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def pages(first: str, settings: dict[str, str]) -> int:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    code = PAGES.format(first=first)
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain | settings, capture_output=True, check=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
@pytest.mark.parametrize(
    ("first", "settings"), [("from isthmus.wire import heap; heap.settle()", {}), ("", ENVIRONMENT)]
)
def test_memory_of_messages_is_used_again_and_not_asked_for_anew(
    first: str, settings: dict[str, str]
) -> None:
    assert pages("", {}) > 5000
    assert pages(first, settings) < 500


def test_what_stands_when_a_process_has_settled_is_not_searched_again() -> None:
    code = "import gc; from isthmus.wire import heap; heap.settle(); print(gc.get_freeze_count(), gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    frozen, enabled = done.stdout.split()
    assert int(frozen) > 1000
    assert enabled == "True"
