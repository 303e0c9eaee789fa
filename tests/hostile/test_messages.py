"""Messages quote a little of what a stranger's file holds: a picture's bytes in a cell are not printed."""

import csv
import json

import pyarrow
import pytest
from pyarrow import parquet

from attention_refine.caption_check.question_files import read_questions
from attention_refine.vqa.layouts import load_questions
from reward import HyperAlignReward
from reward.cli.main import main
from reward.datasets import load_dataset
from reward.images.reading import read_image
from reward.model.config import HyperAlignConfig
from reward.scoring.inputs import find_rows
from reward.training.recipe import load_training_config
from rl.config.ddpo_config import DDPOConfig
from rl.config.loading import load_config
from rl.prompts import load_prompts

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 200
LONG = "x" * 50_000
# A path of the test's own folder stands in each, perhaps twice.
MOST = 1000


CELLS = {
    "picture as the path": {"image": [PICTURE], "prompt": ["a ring"], "score": [0.5]},
    "picture as the prompt": {"image": ["a.png"], "prompt": [PICTURE], "score": [0.5]},
    "picture as the score": {"image": ["a.png"], "prompt": ["a ring"], "score": [PICTURE]},
    "long path": {"image": [LONG], "prompt": ["a ring"], "score": [0.5]},
    "long score": {"image": ["a.png"], "prompt": ["a ring"], "score": [LONG]},
    "structure as the path": {"image": [{"bytes": PICTURE, "path": "a.png"}], "prompt": ["a ring"], "score": [0.5]},
    "structure as the prompt": {"image": ["a.png"], "prompt": [{"bytes": PICTURE}], "score": [0.5]},
    "list as the prompt": {"image": ["a.png"], "prompt": [[LONG, LONG]], "score": [0.5]},
    "long column names": {LONG: ["a.png"], LONG + "y": ["a ring"], "score": [0.5]},
}


def _bytes_of(cells):
    [cell] = cells.get("image", [None])
    return cell["bytes"] if isinstance(cell, dict) else None


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_cell_is_quoted_in_part(tmp_path, cells, suffix):
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.table(cells), path)
    else:
        record = {name: value for name, (value,) in cells.items()}
        path.write_text(json.dumps(record, default=lambda picture: list(picture)))
    if suffix == ".parquet" and PICTURE in (cells.get("image", [None])[0], _bytes_of(cells)):
        # a picture inside a table, which is read as such
        assert load_dataset("table", path).images[0].read() == PICTURE
        return
    with pytest.raises(ValueError) as error:
        load_dataset("table", path)
    assert len(str(error.value)) < MOST
    try:
        problems = [row.problem for row in find_rows([path])]
    except ValueError as error:
        problems = [str(error)]
    assert all(len(problem) < MOST for problem in problems)


def test_a_picture_in_a_cell_is_not_printed(tmp_path, capsys):
    towers = ["--backbone", "tinyworld"]
    model = ["--model", "tinyworld"]
    for name in ("picture as the path", "picture as the prompt", "long path"):
        path = tmp_path / "table.parquet"
        parquet.write_table(pyarrow.table(CELLS[name]), path)
        assert main(["score", "--table", str(path), "--output", str(tmp_path / "scores.csv"), "--quiet", *model]) == 1
        said = capsys.readouterr().err
        assert len(said) < 3 * MOST and PICTURE[:6].decode("latin-1") not in said
        assert name == "picture as the path" or "51208 bytes" in said or "characters)" in said
        data = ["--dataset", "table", "--data", str(path)]
        assert main(["train", *data, "--output", str(tmp_path / "new"), *towers]) == 2
        assert len(capsys.readouterr().err) < 2 * MOST


def test_text_files_are_quoted_in_part(tmp_path):
    for name, rows in {
        "path": [["image", "prompt", "score"], [LONG, "a ring", "1"]],
        "header": [[LONG, LONG + "y"], ["a", "b"]],
        "score": [["image", "prompt", "score"], ["a.png", "a ring", LONG]],
    }.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        with pytest.raises(ValueError) as error:
            load_dataset("table", tmp_path / f"{name}.csv")
        assert len(str(error.value)) < MOST, name


def test_questions_are_quoted_in_part(tmp_path):
    texts = {
        "prompt.csv": f"item_id,prompt,question\n1,{LONG},\n",
        "header.csv": f"{LONG}\n1\n",
        "item.csv": f"item_id,prompt,question\n{LONG},a,q\n{LONG},{LONG}y,q\n",
        "parent.json": json.dumps([{"id": 1, "prompt": "a", "questions": ["q"], "dependencies": [[LONG]]}]),
        "kind.json": json.dumps([{"id": LONG, "prompt": {"a": LONG}, "questions": [LONG], "dependencies": [[0]]}]),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError) as error:
            read_questions(tmp_path / name)
        assert len(str(error.value)) < MOST, name


def test_questions_for_a_captioner_are_quoted_in_part(tmp_path):
    (tmp_path / "a.csv").write_text(f"image,question,answer\n{LONG},q,a\n")
    with pytest.raises((ValueError, OSError)) as error:
        load_questions("table", tmp_path / "a.csv")
    assert len(str(error.value)) < MOST


def test_a_picture_that_is_not_there_is_named_in_part():
    with pytest.raises(ValueError) as error:
        read_image(LONG)
    assert len(str(error.value)) < MOST


def test_configs_are_quoted_in_part(tmp_path):
    long = tmp_path / "long.yaml"
    for line in (f"{LONG}: 1", f"seed: {LONG}", f"seed: [{LONG}]", f"mixed_precision: {LONG}", f"seed: !{LONG} 1"):
        long.write_text(line)
        for read in (lambda: load_config(DDPOConfig, ["--config", str(long)]), lambda: load_training_config(long)):
            with pytest.raises((ValueError, TypeError)) as error:
                read()
            assert len(str(error.value)) < 2 * MOST, line[:60]
    wrong_choice = {"entailment": LONG, "embed_dim": 3, "backbone": "a"}
    for values in ({"backbone": LONG, "embed_dim": LONG}, {LONG: 1}, wrong_choice):
        with pytest.raises((ValueError, TypeError)) as error:
            HyperAlignConfig.from_dict({"format_version": 1} | values)
        assert len(str(error.value)) < MOST


@pytest.mark.parametrize("pretrained", [None, LONG])
def test_a_backbone_is_named_in_part(pretrained):
    with pytest.raises(ValueError) as error:
        HyperAlignReward.from_backbone(LONG if pretrained is None else "ViT-B-16", pretrained=pretrained)
    assert len(str(error.value)) < MOST


def test_prompts_are_quoted_in_part(tmp_path, monkeypatch):
    (tmp_path / "my_long_prompts.py").write_text("def f():\n    return [b'\\0' * 100_000]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError) as error:
        load_prompts("my_long_prompts:f")
    assert len(str(error.value)) < MOST
