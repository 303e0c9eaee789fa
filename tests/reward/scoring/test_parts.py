import csv
import json

import pytest
from pyarrow import parquet

from reward.scoring.parts import PartFolder, check_output, write_scores

RECORDS = [
    {"path": "a.png", "prompt": 'says "hi", then\nleaves', "score": 0.1},
    {"path": "b.png", "error": "b.png is broken"},
    {"path": "c.png", "prompt": "é", "score": 1 / 3},
]
KEY = "0123456789abcdef" * 2


def read_back(path):
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [{**row, "score": float(row["score"])} for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_scores_are_read_back_to_the_last_bit_and_errors_left_out(tmp_path, suffix):
    path = tmp_path / "new" / f"s.{suffix}"
    assert write_scores(path, iter(RECORDS)) == path
    assert read_back(path) == [RECORDS[0], RECORDS[2]]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_failure_leaves_the_earlier_file(tmp_path, suffix):
    path = tmp_path / f"s.{suffix}"
    write_scores(path, RECORDS)
    before = path.read_bytes()

    def failing():
        yield RECORDS[0]
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        write_scores(path, failing())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_no_scores_at_all_is_an_empty_table(tmp_path):
    for suffix in ("csv", "jsonl", "parquet"):
        assert read_back(write_scores(tmp_path / f"s.{suffix}", RECORDS[1:2])) == []


def test_parts_are_kept_told_apart_and_removed(tmp_path):
    folder = PartFolder(tmp_path / "s.csv")
    folder.write(0, KEY, RECORDS[:1])
    folder.write(1, KEY, RECORDS)
    assert folder.has(0, KEY) and not folder.has(0, KEY[::-1]) and not folder.has(2, KEY)
    assert not folder.has(1, KEY), "a part with an error is tried again"
    assert list(folder.read(1, KEY)) == RECORDS
    folder.write(1, KEY, RECORDS[:1])
    assert list(folder.read(1, KEY)) == RECORDS[:1]
    with pytest.raises(FileNotFoundError, match="part 2 .* run the same command again"):
        list(folder.read(2, KEY))
    (folder.path / f".hyperalign-elsewhere-123.000003-{KEY}.jsonl").touch()
    folder.remove()
    assert not folder.path.exists()
    folder.remove()


def test_a_damaged_part_is_none(tmp_path):
    folder = PartFolder(tmp_path / "s.csv")
    folder.write(0, KEY, RECORDS[:1])
    (file,) = folder.path.iterdir()
    whole = file.read_bytes()
    for damaged in (whole.replace(b"0.1", b"0.3"), whole[:-5], b"", b"\xff" + whole[1:]):
        file.write_bytes(damaged)
        assert not folder.has(0, KEY)
        with pytest.raises(FileNotFoundError, match="part 0 .* gone or damaged"):
            list(folder.read(0, KEY))
    file.write_bytes(whole)
    assert folder.has(0, KEY)


def test_what_is_not_ours_is_not_removed(tmp_path):
    folder = PartFolder(tmp_path / "s.csv")
    folder.write(0, KEY, RECORDS[:1])
    (folder.path / "diary.txt").touch()
    folder.remove()
    assert [path.name for path in folder.path.iterdir()] == ["diary.txt"]


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    check_output(tmp_path / "s.parquet")
    with pytest.raises(ValueError, match="to end in .csv, .jsonl or .parquet"):
        check_output(tmp_path / "s.json")
    with pytest.raises(ValueError, match="is a folder"):
        (tmp_path / "s.csv").mkdir()
        check_output(tmp_path / "s.csv")
