"""Which reader a name leads to, and what a folder is."""

import pandas
import pytest

from reward.tables.reading import expanded, is_table, read_table, tables_in
from reward.tables.rows import Asked
from tests.reward.tables.conftest import encoded


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.jsonl", "a.parquet", "s-{0..3}.tar", "datasets:x/y?split=test"])
def test_names_of_tables(name):
    assert is_table(name)


@pytest.mark.parametrize("name", ["a.png", "folder", "a.xlsx", "-"])
def test_names_of_other_things(name):
    assert not is_table(name)
    with pytest.raises(ValueError, match="Expected a table ending in .csv"):
        read_table(name, Asked(("image",)))


def test_what_a_folder_is(tmp_path):
    assert tables_in(tmp_path) == []
    for name in ("data/b.parquet", "data/a.parquet", ".cache/c.parquet", "s.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert tables_in(tmp_path) == [tmp_path / "data" / "a.parquet", tmp_path / "data" / "b.parquet"]
    (tmp_path / "data" / "metadata.csv").write_text("file_name,text\n")
    assert tables_in(tmp_path) == [tmp_path / "data" / "metadata.csv"]


def test_braces_of_a_files_own_name_are_its_own(tmp_path):
    (tmp_path / "{1..2}.csv").write_text("image,prompt\n")
    assert expanded(tmp_path / "{1..2}.csv") == [tmp_path / "{1..2}.csv"]
    assert expanded(tmp_path / "{1..2}.tar") == [tmp_path / "1.tar", tmp_path / "2.tar"]


def test_a_picture_in_a_table_is_read_as_what_it_is(tmp_path):
    pandas.DataFrame({"png": [encoded(9)], "text": ["x"]}).to_parquet(tmp_path / "t.parquet")
    [row] = read_table(tmp_path / "t.parquet", Asked(("image", "prompt")), "mine")
    assert row.cells["image"].read() == encoded(9) and row.where == "mine, row 1"
