"""Both images, built for real with buildah where ISTHMUS_BUILD_IMAGES asks for it, and run as an orchestrator would run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.deploy.base import lay_out
from tests.deploy.container import UID, Container

ROOT = Path(__file__).parents[2]
TARGETS = ("serve", "train")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_S, WAIT_S = 900.0, 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not os.environ.get("ISTHMUS_BUILD_IMAGES"), reason="set ISTHMUS_BUILD_IMAGES=1 to build the images"
    ),
    pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed: no image is built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can build an image here"),
]


class Builder:
    """buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *arguments: str) -> str:
        places = ["--root", str(self._folder / "store"), "--runroot", str(self._folder / "run")]
        done = subprocess.run(
            ["buildah", *places, *arguments],
            env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
        assert done.returncode == 0, f"{' '.join(arguments[:2])}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Container]]:
    """The two targets over a base made of this machine's Python. Packages come from where pip finds them here."""
    folder = tmp_path_factory.mktemp("images")
    buildah = Builder(folder)
    lay_out(folder / "base")
    base = buildah("from", "scratch")
    buildah("add", "--quiet", base, str(folder / "base"), "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", base)
    buildah("commit", "--quiet", base, "base")
    settings = folder / "pip.conf"
    settings.write_text("[global]\nroot-user-action = ignore\ndisable-pip-version-check = true\n")
    secrets = ["--secret", f"id=pip,src={settings}"]
    if CERTIFICATES.exists():
        settings.write_text(settings.read_text() + "cert = /run/secrets/ca\n")
        secrets += ["--secret", f"id=ca,src={CERTIFICATES}"]
    made = {}
    try:
        for target in TARGETS:
            buildah(
                "build", "--quiet", "--layers", "--pull-never", "--format", "docker", "--build-arg", "BASE=localhost/base",
                *secrets, "--file", str(ROOT / "deploy/Dockerfile"), "--target", target, "--tag", target, str(ROOT),
            )  # fmt: skip
            root = Path(buildah("mount", buildah("from", "--pull-never", f"localhost/{target}")))
            shown = json.loads(buildah("inspect", "--type", "image", f"localhost/{target}"))
            made[target] = Container(root, shown["Docker"]["config"])
        yield made
    finally:
        buildah("umount", "--all")
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A volume for the folder of a node, owned as the image has it."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    return folder


def until(what: str, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.2)


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_names_its_user_its_program_and_its_check(
    images: dict[str, Container], target: str
) -> None:
    config = images[target].config
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["isthmus"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "isthmus", "health"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_where_no_shell_is(images: dict[str, Container], target: str) -> None:
    assert not any(
        (images[target].root / folder / "sh").exists() for folder in ("bin", "usr/bin", "usr/local/bin")
    )
    told = images[target].run("version", "-o", "json")
    assert told.returncode == 0, told.stderr
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert version
    assert json.loads(told.stdout)["isthmus"] == version[1]


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_nobody_in_particular_and_its_root_cannot_be_written(
    images: dict[str, Container], target: str
) -> None:
    probe = (
        "import os, json\n"
        "def tries(path):\n"
        "    try: open(path, 'w').close()\n"
        "    except OSError as error: return error.errno\n"
        "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status'))\n"
        "print(json.dumps({'uid': os.getuid(), 'gid': os.getgid(), 'groups': os.getgroups(),\n"
        "  'capabilities': int(status['CapEff'], 16), 'new': status['NoNewPrivs'].strip(),\n"
        "  'tmp': tries('/tmp/x'), 'own': tries('/data/x'), 'root': tries('/x'),\n"
        "  'code': tries('/opt/isthmus/bin/isthmus')}))\n"
    )
    told = images[target].run("-c", probe, entry=["python3"])
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert (found["uid"], found["gid"], set(found["groups"]) <= {UID}) == (UID, UID, True)
    assert (found["capabilities"], found["new"]) == (0, "1")
    assert found["tmp"] is None
    assert found["own"] == 30, "a read-only file system"
    assert {found["root"], found["code"]} <= {13, 30}


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_its_own_folders_belongs_to_the_user(images: dict[str, Container], target: str) -> None:
    root = images[target].root
    own = {f"/{path.relative_to(root)}" for path in root.rglob("*") if path.lstat().st_uid == UID}
    assert own == {"/data", "/var/lib/isthmus", "/var/lib/isthmus/keys"}
    loose = [
        path for path in (root / "opt").rglob("*") if not path.is_symlink() and path.lstat().st_mode & 0o6022
    ]
    assert loose == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_node_of_the_image_answers_and_ends_in_order(
    images: dict[str, Container], target: str, home: Path, tmp_path: Path
) -> None:
    inside = replace(images[target], mounts=((home, "/var/lib/isthmus"),))
    listening = ["--listen", "127.0.0.1:0", "--address", "https://127.0.0.1:1"]
    made = inside.run("init", "--party", "river-bank", *listening, "-o", "json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["data"] == ["/data"]
    assert (home / "keys/party.key").stat().st_uid == UID
    assert inside.run("health").returncode != 0

    process = inside.start("serve", log=tmp_path / "log")
    try:
        until("the node", (home / "control.json").exists)
        control = json.loads((home / "control.json").read_text("ascii"))
        with urllib.request.urlopen(f"http://127.0.0.1:{control['port']}/health", timeout=10) as answer:
            assert answer.read() == b"ok\n"
        assert inside.run("health", "--ready").returncode == 0
        shown = inside.run("doctor", "-o", "json")
        assert shown.returncode == 0, shown.stdout
    finally:
        (inner,) = children(process.pid)
        os.kill(inner, signal.SIGTERM)
        process.wait(30)
    assert process.returncode == 0, (tmp_path / "log").read_text()
    assert not (home / "control.json").exists()


def children(pid: int) -> list[int]:
    """The processes that `pid` started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_kernels_of_the_train_image_need_no_compiling(images: dict[str, Container]) -> None:
    """What `serve` does before the first job: bring them, then load them. A kernel that did not fit would be written anew."""
    probe = (
        "import os, pathlib\n"
        "from isthmus.service import kernels\n"
        "assert kernels.bring(os.environ)\n"
        "cache = pathlib.Path(os.environ['NUMBA_CACHE_DIR'])\n"
        "state = lambda: {str(p): p.stat().st_mtime_ns for p in cache.rglob('*.nb?')}\n"
        "before = state()\n"
        "from isthmus.crypto.lattice import vectors\n"
        "from isthmus.learn import tree\n"
        "vectors.warm(); tree.warm()\n"
        "assert before and state() == before\n"
    )
    told = images["train"].run("-c", probe, entry=["python3"])
    assert told.returncode == 0, told.stderr
    assert not (images["serve"].root / "opt/kernels").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_points_are_blinded_where_nothing_in_tmp_may_be_run(
    images: dict[str, Container], target: str
) -> None:
    probe = (
        "import os\n"
        "from isthmus.crypto.curve import blind_ids, random_scalar\n"
        "assert len(blind_ids([b'1', b'2'], b'test', random_scalar())) == 2\n"
        "assert os.listdir('/tmp') == []\n"
    )
    told = images[target].run("-c", probe, entry=["python3"])
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_a_whole_job_runs_inside_the_confinement(
    images: dict[str, Container], target: str, home: Path
) -> None:
    """Nodes, workers, kernels and reports of the demo; the volume is the only place where files may be left."""
    config = images[target].config | {"WorkingDir": "/var/lib/isthmus"}
    inside = replace(images[target], config=config, mounts=((home, "/var/lib/isthmus"),))
    small = ["--data", "generated", "--rows", "3000", "--set", "trees=4", "--set", "max_bins=16"]
    told = inside.run("demo", *small, timeout=240)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "all 9 checks hold" in told.stdout
