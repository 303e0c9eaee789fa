"""Parquet as `datasets` and pandas write it, with pictures inside."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import pandas
import pyarrow
import pytest
from pyarrow import parquet as pq

from reward.tables import parquet
from reward.tables.parquet import ParquetPicture, read_parquet
from reward.tables.rows import Asked
from tests.reward.tables.conftest import PROMPTS, encoded, redness

ASKED = Asked(("image", "prompt"))


def rows_of(path):
    return list(read_parquet(path, ASKED, path.name))


def test_what_datasets_writes(pictures, tmp_path):
    # the first by its path alone, as datasets writes files that are not embedded
    cells = [{"bytes": encoded(50 * n) if n else None, "path": str(pictures / "sub" / f"{n}.png")} for n in range(5)]
    data = datasets.Dataset.from_dict({"text": PROMPTS, "image": cells}).cast_column("image", datasets.Image())
    data.to_parquet(tmp_path / "d.parquet")
    for cell in cells[1:]:
        Path(cell["path"]).unlink()
    rows = rows_of(tmp_path / "d.parquet")
    assert [row.cells["prompt"] for row in rows] == PROMPTS
    assert [redness(row.cells["image"]) for row in rows] == [0, 50, 100, 150, 200]
    assert [str(row.cells["image"]) for row in rows] == [f"d.parquet#{n + 1}/{n}.png" for n in range(5)]
    assert [row.where for row in rows][:2] == ["d.parquet, row 1", "d.parquet, row 2"]


@pytest.mark.parametrize("form", ["bytes", "both", "path only", "path"])
def test_what_pandas_writes(pictures, form):
    def cell(number):
        content, path = encoded(50 * number), f"sub/{number}.png"
        return {
            "bytes": content, "path": path, "both": {"bytes": content, "path": path},
            "path only": {"bytes": None, "path": path},
        }[form]  # fmt: skip

    file = pictures / "p.parquet"
    pandas.DataFrame({"caption": PROMPTS, "image": [cell(number) for number in range(5)]}).to_parquet(file)
    found = [row.cells["image"] for row in rows_of(file)]
    if form == "path":
        assert found == [f"sub/{number}.png" for number in range(5)]
    else:
        assert [redness(picture) for picture in found] == [0, 50, 100, 150, 200]


def test_in_any_order_from_threads_and_other_processes(tmp_path, monkeypatch):
    count = 300
    cells = [{"bytes": encoded(number % 200), "path": None} for number in range(count)]
    table = pyarrow.table({"image": cells, "prompt": ["x"] * count})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=70)
    pictures = [row.cells["image"] for row in rows_of(tmp_path / "t.parquet")]
    order = [*range(0, count, 7), *range(count - 1, -1, -3), *range(count)]
    monkeypatch.setattr(parquet, "_KEPT_BYTES", 5_000)  # so that what was passed over is forgotten
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: redness(pictures[n]), order)) == [n % 200 for n in order]
    again = pickle.loads(pickle.dumps(pictures[123]))
    assert again == pictures[123] and hash(again) == hash(pictures[123]) and redness(again) == 123


def test_rows_in_order_are_read_once(tmp_path, monkeypatch):
    restarts = []
    monkeypatch.setattr(
        parquet._Cursor,
        "_restart",
        lambda self, row, plain=parquet._Cursor._restart: (restarts.append(row), plain(self, row)),
    )
    pq.write_table(
        pyarrow.table({"image": [encoded(n) for n in range(100)], "prompt": ["x"] * 100}), tmp_path / "t.parquet"
    )
    for row in rows_of(tmp_path / "t.parquet"):
        row.cells["image"].read()
    assert restarts == [0]


def test_an_empty_cell_and_a_changed_file(tmp_path):
    file = tmp_path / "t.parquet"
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    cells = pyarrow.array([{"bytes": None, "path": None}, None, {"bytes": b"x", "path": None}], kind)
    pq.write_table(pyarrow.table({"image": cells, "prompt": ["x"] * 3}), file)
    pictures = [row.cells["image"] for row in rows_of(file)]
    for picture in pictures[:2]:
        with pytest.raises(ValueError, match="expected a picture but the cell 'image' is empty"):
            picture.read()
    before = pictures[2].state()
    pq.write_table(pyarrow.table({"image": [b"longer than it was"], "prompt": ["x"]}), file)
    assert pictures[2].state() != before
    with pytest.raises(ValueError, match="could not read row 3"):
        pictures[2].read()
    with pytest.raises(ValueError, match="Expected a Parquet file but could not read"):
        ParquetPicture("n", tmp_path / "none.parquet", "image", 0).read()
