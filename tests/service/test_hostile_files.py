"""Files as an attacker, a spreadsheet or a broken disk leaves them, registered over HTTP. (F1, F4, F5, F7 to F9, F12, T27)

In every case: a code, a sentence in both languages, no traceback, no value, nothing written, the state as before, one audit line.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from isthmus.service.node import Node
from tests.service.test_api import asking, check_problem

SECRET = "canary-4242"
Plain = Callable[[Path], bytes]


class Canary:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder / "canary-ran"),)


def pickled(folder: Path) -> bytes:
    return pickle.dumps([Canary(folder), SECRET])


def pickled_as_text(folder: Path) -> bytes:
    return pickle.dumps([Canary(folder), SECRET], protocol=0)


def npy_of_objects(folder: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Canary(folder)], dtype=object), allow_pickle=True)
    return out.getvalue()


def npy(header: str, body: bytes = b"") -> Plain:
    text = header.encode().ljust(117) + b"\n"
    return lambda folder: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npz_of_objects(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", npy_of_objects(folder))
    return out.getvalue()


def as_pt(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(folder))
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def bomb(levels: int) -> Plain:
    def make(folder: Path) -> bytes:
        content = b"0" * 5_000_000
        for _ in range(levels):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("../../escaped.csv", content)
            content = out.getvalue()
        return content

    return make


def safetensors(header: dict[str, Any]) -> Plain:
    text = json.dumps(header).encode()
    return lambda folder: struct.pack("<Q", len(text)) + text


def parquet(change: Callable[[bytes], bytes] = bytes, **columns: Any) -> Plain:
    def make(folder: Path) -> bytes:
        out = io.BytesIO()
        pyarrow.parquet.write_table(pa.table(columns or {"id": ["a", "b"], "x": [1, 2]}), out)
        return change(out.getvalue())

    return make


def text(content: str, encoding: str = "utf-8") -> Plain:
    return lambda folder: content.encode(encoding)


def rows(count: int, cell: str = "1") -> str:
    return "".join(f"u{i},{cell}\n" for i in range(count))


def huge_footer(body: bytes) -> bytes:
    return body[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1"


CASES: dict[str, tuple[str, Plain, str, dict[str, Any]]] = {
    # F1
    "gbk-undeclared": (
        "t.csv",
        text("id,城市\na,北京\nb,上海\n", "gbk"),
        "encoding_error",
        {"row": 0, "offset": 3},
    ),
    "gbk-row": ("t.csv", text("id,x\na,1\nb,上海\n", "gbk"), "encoding_error", {"row": 2, "offset": 11}),
    "mixed": (
        "t.csv",
        lambda folder: "id,x\na,北\n".encode() + "b,京\n".encode("gbk"),
        "encoding_error",
        {"row": 2, "offset": 13},
    ),
    "half-a-character": (
        "t.csv",
        lambda folder: "id,x\na,1\nb,京".encode()[:-1],
        "encoding_error",
        {"row": 2},
    ),
    # F4
    "infinity": ("t.csv", text("id,x\n" + rows(3) + "v,1e400\n"), "not_a_number", {"rows": [4], "count": 1}),
    # F5
    "a-cell-of-a-megabyte": ("t.csv", text(f"id,x\na,{SECRET * 100_000}\nb,1\n"), "too_large", {}),
    "a-row-without-end": ("t.csv", text("id,x\na," + SECRET * 900_000), "too_large", {}),
    "a-header-without-end": ("t.csv", text("id," + "x" * 18_000_000), "bad_csv", {}),
    "10001-columns": ("t.csv", text(",".join(["id", *map(str, range(10_000))]) + "\n"), "too_large", {}),
    # F7
    "zip": ("t.csv", bomb(1), "unsupported_format", {}),
    "zip-in-zip-in-zip": ("t.csv", bomb(3), "unsupported_format", {}),
    "zip-as-parquet": ("t.parquet", bomb(2), "unsupported_format", {}),
    "zip-by-name": ("t.zip", bomb(1), "unsupported_format", {}),
    "csv-in-gzip-by-name": ("t.csv.gz", text("id,x\na,1\nb,2\n"), "unsupported_format", {}),
    # F8
    **{
        f"pickle-as-{suffix}": (f"t.{suffix}", pickled, "unsupported_format", {})
        for suffix in (
            "csv",
            "tsv",
            "txt",
            "parquet",
            "pq",
            "npy",
            "npz",
            "pt",
            "json",
            "safetensors",
            "arrow",
            "pkl",
        )
    },
    "pickle-as-text": ("t.csv", pickled_as_text, "missing_column", {}),
    "npy-of-objects": ("t.npy", npy_of_objects, "unsupported_format", {}),
    "npy-of-objects-as-csv": ("t.csv", npy_of_objects, "unsupported_format", {}),
    "npz-of-objects": ("t.npz", npz_of_objects, "unsupported_format", {}),
    "npz-of-objects-as-csv": ("t.csv", npz_of_objects, "unsupported_format", {}),
    "pt": ("t.pt", as_pt, "unsupported_format", {}),
    "pt-as-parquet": ("t.parquet", as_pt, "unsupported_format", {}),
    # F9
    **{
        f"npy-{name}-as-{suffix}": (
            f"t.{suffix}",
            npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", b"12345678"),
            "unsupported_format",
            {},
        )
        for suffix in ("npy", "csv", "parquet")
        for name, kind, shape in (
            ("overflow", "<f8", "(2147483648, 2147483648)"),
            ("negative", "<f8", "(-1, 3)"),
            ("objects", "|O", "(1,)"),
            ("big-endian", ">f8", "(1,)"),
            ("wrong-size", "<f8", "(7,)"),
        )
    },
    "safetensors": (
        "t.safetensors",
        safetensors({"x": {"dtype": "F64", "shape": [2**31, 2**31], "data_offsets": [0, 2**65]}}),
        "unsupported_format",
        {},
    ),
    "parquet-cut": ("t.parquet", parquet(lambda body: body[:-20]), "bad_array", {}),
    "parquet-footer-longer-than-the-file": ("t.parquet", parquet(huge_footer), "bad_array", {}),
    "parquet-footer-of-noise": (
        "t.parquet",
        parquet(lambda body: b"PAR1" + b"\xff" * 200 + struct.pack("<I", 200) + b"PAR1"),
        "bad_array",
        {},
    ),
    "parquet-of-lists": ("t.parquet", parquet(id=["a", "b"], x=[[1], [2]]), "unsupported_format", {}),
    "parquet-of-bytes": ("t.parquet", parquet(id=["a", "b"], x=[b"1", b"2"]), "unsupported_format", {}),
}


def listed(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def audited(node: Node) -> list[tuple[str, str, str]]:
    return [(line.kind, line.object, line.code) for line in node.store.audit()]


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    name, make, code, fields = CASES[case]

    async def play(client: httpx.AsyncClient, node: Node) -> None:
        file = tmp_path / "data" / name
        file.parent.mkdir()
        file.write_bytes(make(tmp_path))
        before, lines = listed(tmp_path), audited(node)
        body = {"name": "t", "path": str(file), "key": "id", "missing": []}
        for language in ("en", "zh"):
            answer = await client.post("/datasets", json=body, headers={"Accept-Language": language})
            told = check_problem(answer, 422, code)
            assert told["fields"].items() >= {name: str(value) for name, value in fields.items()}.items()
            assert any("\u4e00" <= sign <= "\u9fff" for sign in told["detail"]) == (language == "zh")
            assert told["hint"]
            assert SECRET not in answer.text
            assert "Traceback" not in answer.text
        assert listed(tmp_path) == before, "something was written, or the canary ran"
        assert (await client.get("/datasets")).json()["items"] == []
        assert audited(node)[len(lines) :] == [("dataset.refused", "t", code)]

    asking(tmp_path, play)


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "gb2312"])
def test_what_is_declared_is_read(tmp_path: Path, encoding: str) -> None:  # F1
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        (tmp_path / "t.csv").write_bytes('编号,城市\r\n一,"北\r\n京"\r\n二,上海\r\n'.encode("gbk"))
        body = {"name": "t", "path": str(tmp_path / "t.csv"), "key": "编号", "encoding": encoding}
        added = (await client.post("/datasets", json=body)).json()
        assert (added["rows"], [column["name"] for column in added["profile"]]) == (2, ["城市"])

    asking(tmp_path, play)


@pytest.mark.slow
def test_ten_thousand_columns_are_read(tmp_path: Path) -> None:  # F5
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        names = ",".join(["id", *(f"c{i}" for i in range(9_999))])
        lines = [",".join([f"u{row}", *(str(row * i % 7) for i in range(9_999))]) for row in range(3)]
        (tmp_path / "t.csv").write_text("\n".join([names, *lines]) + "\n")
        added = await client.post(
            "/datasets", json={"name": "t", "path": str(tmp_path / "t.csv"), "key": "id"}
        )
        assert len(added.json()["profile"]) == 9_999

    asking(tmp_path, play)


def paths(root: Path) -> Iterator[str]:
    inside = root / "data"
    yield f"{inside}/../outside.csv"
    yield f"{inside}/./../outside.csv"
    for dots in ("%2e%2e", "%252e%252e", "..%2f", "%2e%2e%2f", "..%c0%af", "..\uff0f"):
        yield f"{inside}/{dots}/outside.csv"
    yield f"file://{inside}/in.csv"
    yield f"FILE://{inside}/in.csv"
    yield f"http://127.0.0.1{inside}/in.csv"
    yield f"//server{inside}/in.csv"
    yield f"\\\\server\\{inside}\\in.csv"
    yield f"{inside}\\in.csv"
    yield f"{inside}/in.csv\n"
    yield f"{inside}/way-out.csv"
    yield f"{inside}/folder-out/outside.csv"
    yield f"{inside}/loop.csv"
    yield f"{inside}/to-the-database.csv"
    yield f"{inside}/in.csv/x"
    yield f"{root}/database/node.db"
    yield f"{root}/outside.csv"
    yield f"~{inside}/in.csv"
    yield "$HOME/in.csv"
    yield "in.csv"
    yield "/proc/self/environ"
    yield "/dev/stdin"
    yield ""
    yield "/" + "a" * 4_000


def test_a_path_to_anything_but_a_file_in_a_registered_folder_is_refused(tmp_path: Path) -> None:  # F7, F12
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        inside = tmp_path / "data"
        inside.mkdir()
        node.datasets._allowed = [inside]
        for file in (inside / "in.csv", tmp_path / "outside.csv"):
            file.write_text(f"id,x\na,1\nb,{SECRET}\n")
        (inside / "way-out.csv").symlink_to(tmp_path / "outside.csv")
        (inside / "folder-out").symlink_to(tmp_path)
        (inside / "loop.csv").symlink_to(inside / "loop.csv")
        (inside / "to-the-database.csv").symlink_to(node.folder.database)
        for path in paths(tmp_path):
            answer = await client.post("/datasets", json={"name": "t", "path": path, "key": "id"})
            assert check_problem(answer, 422, "bad_path"), path
            assert SECRET not in answer.text
        assert (await client.get("/datasets")).json()["items"] == []
        good = await client.post("/datasets", json={"name": "t", "path": str(inside / "in.csv"), "key": "id"})
        assert good.status_code == 200

    asking(tmp_path, play)
