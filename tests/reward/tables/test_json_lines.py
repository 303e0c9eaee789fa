"""JSON lines as pandas and people write them."""

import base64
import json

import pandas

from reward.tables.json_lines import read_json_lines
from reward.tables.rows import Asked
from tests.reward.tables.conftest import PROMPTS, encoded, redness

ASKED = Asked(("image", "prompt"))


def test_what_pandas_writes(tmp_path):
    file = tmp_path / "t.jsonl"
    pandas.DataFrame({"img_path": ["a.png"] * 5, "caption": PROMPTS}).to_json(file, orient="records", lines=True)
    told = []
    rows = list(read_json_lines(file, Asked(("image", "prompt"), tell=told.append), "t.jsonl"))
    assert [row.cells["prompt"] for row in rows] == PROMPTS
    assert told == ["t.jsonl: image from 'img_path', prompt from 'caption'"]


def test_pictures_of_datasets_as_path_or_bytes(tmp_path):
    cells = [
        {"path": "a.png", "bytes": None}, {"path": "a.png", "bytes": base64.b64encode(encoded(70)).decode()},
        {"path": None, "bytes": "no base64!"},
    ]  # fmt: skip
    lines = [json.dumps({"image": cell, "text": "x"}) for cell in cells]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    path, inside, neither = [row.cells["image"] for row in read_json_lines(tmp_path / "t.jsonl", ASKED, "t.jsonl")]
    assert path == "a.png" and neither == cells[2]
    assert redness(inside) == 70 and str(inside) == "t.jsonl#2/a.png"


def test_lines_with_other_keys_and_bad_ones_between(tmp_path):
    lines = ['\ufeff{"image": "a", "prompt": "x"}', "[1]", '{"path": "b", "text": "y", "more": 1}', '{"path": "c"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = list(read_json_lines(tmp_path / "t.jsonl", ASKED, "t.jsonl"))
    assert [row.cells.get("image") for row in rows] == ["a", None, "b", None]
    assert "expected a JSON object but got a list" in rows[1].problem and "column prompt" in rows[3].problem
