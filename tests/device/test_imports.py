"""What runs on a phone needs the standard library, NumPy and cryptography."""

from __future__ import annotations

import subprocess
import sys


def test_the_device_loads_nothing_else() -> None:
    script = (
        "import sys, isthmus.device\n"
        "top = {name.partition('.')[0] for name in sys.modules if not name.startswith('_')}\n"
        "print(sorted(top - set(sys.stdlib_module_names)))\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('isthmus.')}))\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=60)
    if done.returncode:  # -S hides site-packages where it is not on the path
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    others, rooms = (eval(line) for line in done.stdout.splitlines())  # noqa: S307
    assert set(others) - {"sitecustomize", "distutils-precedence"} <= {
        "cryptography",
        "cffi",
        "isthmus",
        "numpy",
    }
    assert set(rooms) == {"base", "crypto", "device", "learn", "privacy", "protocols", "wire"}
