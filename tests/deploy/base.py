"""A base image made of this machine's own Python: nothing is fetched, and there is no shell in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = ("site-packages", "test", "idlelib", "tkinter", "turtledemo", "__pycache__", "*.a", "*.pyc")


def lay_out(root: Path) -> None:
    """Fills `root` with the interpreter, its library, pip, and every shared object that they load."""
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library, target = Path(sysconfig.get_path("stdlib")), root / "usr/local/lib" / version
    shutil.copytree(library, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    pip = next((library / "site-packages").glob("pip-*.dist-info"), None)
    packages = target / "site-packages"
    packages.mkdir()
    if pip is None:
        subprocess.run([sys.executable, "-m", "ensurepip", "--root", str(root)], check=True)
    else:
        shutil.copytree(pip, packages / pip.name)
        shutil.copytree(library / "site-packages/pip", packages / "pip")
    binary = root / "usr/local/bin"
    binary.mkdir(parents=True)
    shutil.copy2(prefix / "bin" / version, binary / version)
    (binary / "python3").symlink_to(version)
    objects = [binary / version, *target.rglob("*.so")]
    for loaded in sorted({path for part in objects for path in needs(part)} | standard()):
        at = root / str(loaded).lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(loaded, at)
    for folder in ("tmp", "proc", "dev", "sys", "etc/ssl/certs", "run", "var/lib"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/:/none\n")
    (root / "etc/group").write_text("root:x:0:\n")


def needs(binary: Path) -> set[Path]:
    """The shared objects of a binary, where its loader finds them."""
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listed, re.M)}


def standard() -> set[Path]:
    """What a slim Debian has and wheels rely on: the C++ library, the resolver, thread support of old wheels."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
    wanted = r"(?:libstdc\+\+|libgcc_s|libm|libdl|librt|libpthread|libutil|libnss_dns|libnss_files|libresolv)\.so\.\d"
    return {Path(path) for path in re.findall(rf"^\s+{wanted} \(libc6,x86-64.*=> (\S+)$", listed, re.M)}
