"""CSV as pandas writes it, on the settings of Windows and of others."""

import pandas
import pytest

from reward.datasets import load_dataset
from reward.tables.delimited import number_or_text, read_delimited
from reward.tables.rows import Asked
from tests.reward.tables.conftest import PROMPTS

NAMES = [rf"sub\{number}.png" for number in range(len(PROMPTS))]
ASKED = Asked(("image", "prompt", "score"))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_pandas_writes(pictures, mark, encoding, end):
    table = pandas.DataFrame({"file_name": NAMES, "text": PROMPTS, "mos": [1.5, 2, 3.25, 4, 5]})
    decimal = "." if mark == "," else ","
    path = pictures / "scores.csv"
    table.to_csv(path, sep=mark, encoding=encoding, lineterminator=end, decimal=decimal)
    told = []
    dataset = load_dataset("table", path, tell=told.append)
    assert dataset.images == tuple(pictures / "sub" / f"{number}.png" for number in range(5))
    assert list(dataset.prompts) == PROMPTS and dataset.scores.tolist() == [1.5, 2, 3.25, 4, 5]
    [line] = told
    assert line.startswith(f"{path}: image from 'file_name', prompt from 'text', score from 'mos'")
    assert (";" not in line) and (("semicolons" in line) == (mark == ";")) and (("tabs" in line) == (mark == "\t"))


def test_a_semicolon_in_a_prompt_does_not_divide(tmp_path):
    (tmp_path / "t.csv").write_text("image,prompt,score\na.png,a; b; c; d,1\n")
    [row] = read_delimited(tmp_path / "t.csv", ASKED, "t.csv")
    assert row.cells == {"image": "a.png", "prompt": "a; b; c; d", "score": 1.0} and row.where == "t.csv, line 2"


def test_a_bad_line_is_a_problem_of_its_row(tmp_path):
    (tmp_path / "t.csv").write_text("image;prompt;score\na.png;x;1\nb.png;x;y;1\nc.png;x;2\n")
    rows = list(read_delimited(tmp_path / "t.csv", ASKED, "t.csv"))
    assert [row.where for row in rows] == ["t.csv, line 2", "t.csv, line 3", "t.csv, line 4"]
    assert [bool(row.problem) for row in rows] == [False, True, False]


def test_the_line_that_is_not_utf_8(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,prompt,score\na.png,x,1\na.png,café,1\n".encode("cp1252"))
    with pytest.raises(ValueError, match="t.csv, line 3: expected UTF-8 but got the byte 0xe9"):
        list(read_delimited(tmp_path / "t.csv", ASKED, "t.csv"))


def test_numbers():
    assert [number_or_text(text) for text in ("3.5", "1_0", "3,5", "x")] == [3.5, "1_0", "3,5", "x"]
    assert [number_or_text(text, comma=True) for text in ("3,5", "1,000.5", "1,2,3")] == [3.5, "1,000.5", "1,2,3"]
