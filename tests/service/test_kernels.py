"""Kernels that an image ships are brought to the cache once, and only where both folders are named."""

from __future__ import annotations

from pathlib import Path

from isthmus.service.kernels import bring


def test_shipped_kernels_are_copied_into_an_empty_cache(tmp_path: Path) -> None:
    shipped, cache = tmp_path / "shipped", tmp_path / "deep/cache"
    (shipped / "learn").mkdir(parents=True)
    (shipped / "learn/one.nbi").write_bytes(b"index")
    (shipped / "learn/one.nbi").chmod(0o444)
    assert bring({"ISTHMUS_KERNELS": str(shipped), "NUMBA_CACHE_DIR": str(cache)})
    assert (cache / "learn/one.nbi").read_bytes() == b"index"
    (cache / "learn/one.nbi").write_bytes(b"newer")


def test_a_cache_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    shipped, cache = tmp_path / "shipped", tmp_path / "cache"
    for folder, text in ((shipped, "shipped"), (cache, "own")):
        folder.mkdir()
        (folder / "one.nbi").write_text(text)
    assert not bring({"ISTHMUS_KERNELS": str(shipped), "NUMBA_CACHE_DIR": str(cache)})
    assert (cache / "one.nbi").read_text() == "own"


def test_nothing_is_brought_where_nothing_is_shipped(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for environment in (
        {},
        {"NUMBA_CACHE_DIR": str(cache)},
        {"ISTHMUS_KERNELS": str(tmp_path)},
        {"ISTHMUS_KERNELS": str(tmp_path / "missing"), "NUMBA_CACHE_DIR": str(cache)},
    ):
        assert not bring(environment)
    assert not cache.exists()
