"""The folder of a node: modes, keys, one process at a time. (D6, N5)"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.errors import ConfigError, LocalError
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import make_certificate

DIAL_OUT: dict[str, Any] = {"party": "bank", "mode": "dial-out"}
DIRECT = DIAL_OUT | {"mode": "direct", "listen": "127.0.0.1:8443", "address": "https://bank.example:8443"}


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    return NodeFolder.create(tmp_path / "node", make_config(DIRECT, "test"), make_certificate)


def secrets_of(folder: NodeFolder) -> list[Path]:
    return [folder.home / "keys" / "party.key", folder.home / "token", folder.tls_key]


def test_a_new_node_keeps_its_secrets_to_itself(folder: NodeFolder) -> None:
    for path in secrets_of(folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.home.stat().st_mode) == 0o700
    assert folder.config() == make_config(DIRECT, "test")
    assert folder.party_key().public == folder.party_key().public
    folder.check_modes()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_secret_that_others_can_read_or_that_is_gone_stops_the_node(folder: NodeFolder, place: int) -> None:
    path = secrets_of(folder)[place]
    path.chmod(0o640)
    with pytest.raises(ConfigError) as caught:
        folder.check_modes()
    assert (caught.value.code, caught.value.fields["path"]) == ("file_mode", str(path))
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        folder.check_modes()
    assert caught.value.code == "key_missing"
    assert not path.exists()


def test_a_folder_that_is_a_node_is_never_made_anew(folder: NodeFolder) -> None:
    before = folder.party_key().public
    with pytest.raises(ConfigError) as caught:
        NodeFolder.create(folder.home, make_config(DIAL_OUT, "test"), make_certificate)
    assert caught.value.code == "already_there"
    assert folder.party_key().public == before
    with pytest.raises(ConfigError) as caught:
        NodeFolder(folder.home / "keys").config()
    assert caught.value.code == "not_a_node"


def test_one_folder_serves_one_process(folder: NodeFolder) -> None:
    with folder.locked():
        with pytest.raises(LocalError) as caught, NodeFolder(folder.home).locked():
            pass
        assert caught.value.code == "busy"
    with folder.locked():
        pass


def test_a_node_that_does_not_run_says_so(folder: NodeFolder) -> None:
    with pytest.raises(LocalError) as caught:
        folder.control()
    assert caught.value.code == "not_running"
    folder.announce(4711, None)
    assert folder.control().port == 4711
    assert folder.control().token not in repr(folder.control())
    folder.retire()
    with pytest.raises(LocalError):
        folder.control()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"party": "Bank"}, "out_of_bounds"),
        ({"party": "a" * 65}, "out_of_bounds"),
        ({"mode": "relay"}, "missing_field"),
        ({"mode": "pigeon"}, "out_of_bounds"),
        ({"relay": "https://relay.example:443"}, "out_of_bounds"),
        ({"proxy": "https://proxy.example:3128"}, "out_of_bounds"),
        ({"proxy": "http://user:secret@proxy.example:3128"}, "out_of_bounds"),
        ({"proxy_user": "bank"}, "missing_field"),
        ({"control_port": "8000"}, "out_of_bounds"),
        ({"control_port": 70000}, "out_of_bounds"),
        ({"listen": "8443"}, "out_of_bounds"),
        ({"address": "http://bank.example:8443"}, "out_of_bounds"),
        ({"listen": None}, "missing_field"),
        ({"mode": "dial-out"}, "out_of_bounds"),
        ({"debug": True}, "unknown_field"),
        ({"data": "/data"}, "out_of_bounds"),
    ],
)
def test_a_config_is_read_strictly(folder: NodeFolder, change: dict[str, Any], code: str) -> None:
    import yaml

    (folder.home / "config.yaml").write_text(yaml.safe_dump(DIRECT | change))
    with pytest.raises(ConfigError) as caught:
        folder.config()
    assert caught.value.code == code


@pytest.mark.parametrize("text", ["", "[", "a: !!python/name:os.system", "party: bank", "- bank"])
def test_a_config_that_is_no_map_of_fields_is_refused(folder: NodeFolder, text: str) -> None:
    (folder.home / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        folder.config()
