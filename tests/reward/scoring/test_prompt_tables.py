import json

import pyarrow
import pytest
from pyarrow import parquet

from reward.scoring.prompt_tables import read_prompt_table

ROWS = [("a.png", 'a sign that says "open", in red'), ("b.png", "two\nlines"), ("c.png", "naïve")]


def written(path, rows=ROWS, image="image"):
    import csv

    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerows([("seed", image, "prompt"), *((1, *row) for row in rows)])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"prompt": p, image: i, "more": {"x": 1}}) + "\n" for i, p in rows))
    else:
        parquet.write_table(pyarrow.table({"prompt": [p for _, p in rows], image: [i for i, _ in rows]}), path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("image", ["image", "file_name", "path"])
def test_every_form_gives_the_same_rows(tmp_path, suffix, image):
    assert [row[1:] for row in read_prompt_table(written(tmp_path / f"t.{suffix}", image=image))] == ROWS


def test_where_is_the_line_on_which_the_row_starts(tmp_path):
    where = [row[0].rsplit(", ")[1] for row in read_prompt_table(written(tmp_path / "t.csv"))]
    assert where == ["line 2", "line 3", "line 5"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "Expected a table ending in .csv, .tsv, .jsonl, .parquet, .tar but got .*t.txt"),
        ("t.csv", b"", "t.csv, line 1: expected a column image or file_name or path .* but there is none"),
        ("t.csv", b"image|prompt\na|b\n", "expected a column image .* but there is image.prompt"),
        ("t.csv", b"image,prompt\na.png,one, two\n", "t.csv, line 2: expected 2 fields as in the header but got 3"),
        ("t.csv", b'image,prompt\na.png,"open\n', "t.csv, line 2: expected CSV but got unexpected end of data"),
        ("t.csv", b"image,prompt\na.png,caf\xe9\n", "expected UTF-8 but got"),
        ("t.jsonl", b'{"image": "a", "prompt": "b"}\n{"image": \n', "t.jsonl, line 2: expected a JSON object but got"),
        ("t.jsonl", b"[1]\n", "line 1: expected a JSON object but got a list"),
        ("t.jsonl", b'{"image": "a"}\n', "line 1: expected a column prompt or text or caption but there is image"),
        ("t.parquet", b"PAR1", "Expected a Parquet file but could not read"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_prompt_table(tmp_path / name))
