"""Files that are not what their name says, or are no files at all."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.base.errors import ConfigError, DataError
from isthmus.table import ReadOptions, file_digest, read_ids, read_table
from isthmus.table import files as table_files

PLAIN = b"id,x\na,1\nb,2\n"


class Canary:
    """Unpickling it would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../data.csv", b"0" * 1_000_000)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("/data.csv")
        info.size = len(PLAIN)
        archive.addfile(info, io.BytesIO(PLAIN))
    return out.getvalue()


def array(objects: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object) if objects else np.arange(4), allow_pickle=objects)
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".tsv", ".pq"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_dressed_as_a_table_is_refused_and_does_not_run(
    tmp_path: Path, suffix: str, protocol: int
) -> None:  # F8
    canary = tmp_path / "canary"
    path = tmp_path / f"data{suffix}"
    path.write_bytes(pickle.dumps(Canary(canary), protocol=protocol))
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions("id"))
    assert caught.value.code == "unsupported_format"
    assert not canary.exists()


def test_a_pickle_written_as_text_does_not_run_either(tmp_path: Path) -> None:  # F8
    canary = tmp_path / "canary"
    path = tmp_path / "data.csv"
    path.write_bytes(pickle.dumps(Canary(canary), protocol=0))
    with pytest.raises(DataError):
        read_table(path, ReadOptions("id"))
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "content",
    [
        zipped(),
        gzip.compress(b"0" * 1_000_000),
        tarred(),
        array(objects=True),
        array(objects=False),
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"SQLite format 3\0" + bytes(100),
        b"ARROW1\0\0" + bytes(100),
        b"\x7fELF" + bytes(100),
    ],
)
def test_archives_bombs_and_other_formats_are_refused_by_their_first_bytes(
    tmp_path: Path, suffix: str, content: bytes
) -> None:  # F7 F8
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    for read in (read_table, read_ids):
        with pytest.raises(DataError) as caught:
            read(path, ReadOptions("id"))
        assert caught.value.code == "unsupported_format"
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing was unpacked"


@pytest.mark.parametrize(
    "suffix", ["", ".npy", ".npz", ".pt", ".json", ".safetensors", ".arrow", ".xlsx", ".pkl", ".csv.gz"]
)
def test_other_names_are_refused_whatever_is_inside(tmp_path: Path, suffix: str) -> None:  # F8
    path = tmp_path / f"data{suffix}"
    path.write_bytes(PLAIN)
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions("id"))
    assert caught.value.code == "unsupported_format"


def test_nul_bytes_in_a_csv_are_refused(tmp_path: Path) -> None:  # F8
    path = tmp_path / "data.csv"
    path.write_bytes(b"id,x\na,1\nb,\0\n")
    with pytest.raises(DataError) as caught:
        read_table(path, ReadOptions("id"))
    assert caught.value.code == "unsupported_format"


def bad_path(path: Path) -> str:
    for read in (lambda: read_table(path, ReadOptions("id")), lambda: file_digest(path)):
        with pytest.raises(ConfigError) as caught:
            read()
        assert caught.value.code == "bad_path"
    return str(caught.value)


def test_links_folders_pipes_and_missing_files_are_bad_paths(tmp_path: Path) -> None:  # F7 F12
    real = tmp_path / "real.csv"
    real.write_bytes(PLAIN)
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    assert "symbolic link" in bad_path(link)
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "not a regular file" in bad_path(folder)
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    assert "not a regular file" in bad_path(pipe)
    assert "no such file" in bad_path(tmp_path / "absent.csv")
    bad_path(tmp_path / "a\0b.csv")
    bad_path(Path("/dev/zero"))


def test_errors_name_the_file_and_not_its_folder(tmp_path: Path) -> None:
    assert str(tmp_path) not in bad_path(tmp_path / "absent.csv")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:  # F6
    path = tmp_path / "data.csv"
    path.write_bytes(PLAIN)
    with pytest.raises(DataError) as caught, table_files.open_table_file(path):
        path.write_bytes(PLAIN + b"c,3\n")
    assert caught.value.code == "dataset_changed"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80) | st.text("id,x\n\r\"'1a \ufeff京\x1a.", max_size=80).map(str.encode),
    encoding=st.sampled_from(["utf-8", "gb18030", "utf-16", "utf-16-be"]),
)
def test_any_bytes_give_a_table_or_a_data_error_and_nothing_else(
    tmp_path: Path, content: bytes, encoding: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"id,x\n" * (encoding == "utf-8") + content)
    try:
        table = read_table(path, ReadOptions("id", encoding=encoding))
    except DataError:
        return
    assert table.rows >= 2
