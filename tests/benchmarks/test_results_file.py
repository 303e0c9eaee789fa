import pytest

from benchmarks.results_file import put_table, read_rows, write_rows


def test_rows_come_back_as_text(tmp_path):
    path = tmp_path / "rows.csv"
    assert read_rows(path) == []
    write_rows(path, ("name", "value", "error"), [{"name": "a", "value": 1 / 3, "other": 1}])
    assert read_rows(path) == [{"name": "a", "value": "0.3333", "error": ""}]


def test_a_table_goes_between_its_own_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("top\n<!-- a.csv -->\nold\n<!-- end -->\nmiddle\n<!-- b.csv -->\nold\n<!-- end -->\n")
    put_table("b.csv", "new", readme)
    assert readme.read_text() == ("top\n<!-- a.csv -->\nold\n<!-- end -->\nmiddle\n<!-- b.csv -->\nnew\n<!-- end -->\n")
    with pytest.raises(ValueError, match="c.csv"):
        put_table("c.csv", "new", readme)
