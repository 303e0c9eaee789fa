import csv
import json
import sys

import pytest
from PIL import Image

from reward.evaluation.report import summary, write_report


def test_what_is_written(found, tmp_path):
    paths = write_report(found, tmp_path / "out")
    names = ["predictions.csv", "report.html", "report.md", "results.csv", "scatter.png", "summary.json"]
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


def test_without_matplotlib(found, tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'hyperalign\[plot\]'"):
        write_report(found, tmp_path)
    assert len(write_report(found, tmp_path, scatter=False)) == 5
