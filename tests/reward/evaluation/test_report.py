import csv
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from reward.evaluation.report import markdown, print_report, summary, write_report
from reward.evaluation.result import Evaluation


@pytest.fixture
def found():
    random = np.random.default_rng(0)
    result = Evaluation("ablation", "here", "there", notes=["a note"], controls={"blind"})
    for split in range(2):
        prompts = [f"p{i % 8}" for i in range(40)]
        human = random.normal(size=40)
        rows = {"full | x": human + random.normal(size=40), "blind": -human, "flat": np.ones(40)}
        result.add(split, prompts, human, rows)
    return result.summarise([("full | x", "blind")], samples=30)


def test_what_is_written(found, tmp_path):
    paths = write_report(found, tmp_path / "out")
    names = ["predictions.csv", "report.md", "results.csv", "scatter.png", "summary.json"]
    assert sorted(path.name for path in paths) == sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["split"]) for row in rows[:4]] == [
        ("full | x", "0"), ("blind", "0"), ("flat", "0"), ("full | x", "1")
    ]  # fmt: skip
    assert float(rows[0]["srcc"]) == found.runs[0]["srcc"]
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 80 and float(predictions[3]["full | x"]) == found.predictions["full | x"][3]
    kept = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert kept == summary(found) and kept["rows"][2]["srcc"] is None
    assert kept["gaps"][0]["srcc_ci"][0] > 0
    with Image.open(tmp_path / "out" / "scatter.png") as picture:
        assert picture.width > 300 and len(picture.convert("L").getcolors(70000)) > 50


def test_markdown(found):
    text = markdown(found)
    assert text.startswith("# ablation: trained on here, tested on there\n")
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[2].startswith("| full \\| x | 0.") and " ± " in table[2] and table[3].startswith("| *blind* | -1.000")
    assert "| flat | undefined" in text and "- a note" in lines
    # an upside-down predictor has no rising logistic, and that is said
    assert any("blind: no rising logistic could be fitted in 2 of 2 splits" in line for line in lines)


@pytest.mark.parametrize("rich", [True, False])
def test_terminal(found, rich, monkeypatch):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("COLUMNS", "200")
    out = io.StringIO()
    print_report(found, file=out)
    text = out.getvalue()
    for word in ("full | x", "SRCC in a prompt", "-1.000", "Gaps in SRCC", "95 % interval", "undefined", "a note"):
        assert word in text


def test_without_matplotlib(found, tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'hyperalign\[plot\]'"):
        write_report(found, tmp_path)
    assert len(write_report(found, tmp_path, scatter=False)) == 4
