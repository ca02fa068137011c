from __future__ import annotations

from pathlib import Path

from isthmus.table import ReadOptions, profile, read_table


def test_a_profile_counts_gaps_values_and_levels(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    lines = [f"{i},{i if i % 4 else ''},{'ab'[i % 3 == 0]},7,," for i in range(1, 101)]
    path.write_text("\n".join(["id,x,c,k,e,z", *lines]) + "\n")
    found = {column.name: column for column in profile(read_table(path, ReadOptions("id")))}
    assert list(found) == ["x", "c", "k", "e", "z"]
    x = found["x"]
    assert (x.kind, x.missing_share, x.unique, x.min, x.max, x.p50) == ("numeric", 0.25, 75, 1.0, 99.0, 50.0)
    assert found["c"].top == (("a", 67), ("b", 33))
    assert (found["c"].kind, found["c"].unique, found["c"].missing_share) == ("category", 2, 0.0)
    assert (found["k"].kind, found["k"].reason, found["k"].constant) == ("dropped", "constant", True)
    assert (found["e"].kind, found["e"].reason, found["e"].missing_share) == ("dropped", "empty", 1.0)


def test_one_value_with_gaps_is_not_constant(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id,x,c\n1,5,u\n2,,\n3,5,u\n")
    for column in profile(read_table(path, ReadOptions("id"))):
        assert (column.unique, column.constant) == (1, False)
