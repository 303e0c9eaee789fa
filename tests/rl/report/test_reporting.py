"""The run folder's own files: whole, resumable, readable by a browser, safe with hostile prompts."""

import base64
import csv
import html.parser
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from rl.report.page import write_report
from rl.runs.metrics_file import RunReporter, read_metrics
from rl.runs.summary import write_summary

HOSTILE = "</p><script>alert('x')</script>\" onerror='x' & \u202e\x00"


def read_csv(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


class Page(html.parser.HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def full_run(run_dir: Path, *, prompt: str = "a red circle left of a blue square", examples: int = 2) -> Path:
    reporter = RunReporter(run_dir)
    for step in range(1, 41):
        values = {"reward_mean": 0.4 + step / 400, "reward_std": 0.1, "kl": 1e-6 * step}
        reporter.log(step, values | ({"eval/oracle_reward": 0.47 + step / 500} if step % 10 == 0 else {}))
    reporter.save_grid("epoch_0002", torch.rand(3, 3, 16, 16), [prompt] * 3)
    reporter.save_grid("epoch_0010", torch.rand(3, 3, 16, 16), [prompt] * 3)
    folder = run_dir / "samples" / "evaluation"
    folder.mkdir()
    listed = []
    for index in range(examples):
        for side in ("base", "lora"):
            Image.new("RGB", (32, 32), "red").save(folder / f"{side}_{index:03d}.png")
        pair = {side: f"samples/evaluation/{side}_{index:03d}.png" for side in ("base", "lora")}
        scores = {"reward_base": 0.2, "reward_lora": 0.7, "oracle_base": 0.5, "oracle_lora": 1.0}
        listed.append({"prompt": prompt, "seed": 7 + index, **pair, **scores})
    sweep = [
        {"model": model, "guidance": guidance, "reward": 0.3 + guidance / 50, "world.oracle:share": 0.5}
        for model in ("base", "lora")
        for guidance in (1.0, 1.25, 4.0)
    ]
    evaluation = {"guidance_base": 4.0, "guidance_lora": 1.0, "sweep": sweep, "examples": listed}
    (run_dir / "evaluation.json").write_text(json.dumps(evaluation))
    summary = {"reward_base": 0.412, "reward_lora": 0.531, "oracle_base": 0.474, "oracle_lora": 0.551}
    summary |= {"oracle_gain": 0.077, "oracle_gain_ci": [0.051, 0.104], "seconds": 612.0, "n_prompts": 512}
    write_summary(run_dir, summary | {"guidance_base": 4.0, "guidance_lora": 1.0, "epochs": 40})
    config = {"model": "tinyworld:stable-diffusion", "rewards": [f"m:f={prompt}"], "prompts": prompt}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    return run_dir


def test_metrics_are_one_row_a_step_with_all_columns(tmp_path):
    reporter = RunReporter(tmp_path)
    reporter.log(1, {"reward_mean": 0.1, "count": 3})
    reporter.log(2, {"reward_mean": np.float32(0.5), "eval/reward": torch.tensor(0.25)})
    reporter.log(1, {"kl": 0.0})
    rows = read_csv(tmp_path)
    assert list(rows[0]) == ["step", "reward_mean", "count", "kl", "eval/reward"]
    assert rows[0] == {"step": "1", "reward_mean": "0.1", "count": "3", "kl": "0", "eval/reward": ""}
    assert rows[1] == {"step": "2", "reward_mean": "0.5", "count": "", "kl": "", "eval/reward": "0.25"}


def test_metrics_read_back_exactly(tmp_path):
    values = {"a": 1 / 3, "b": 1e-300, "c": -2.0, "d": math.inf, "e": 2.0**60}
    RunReporter(tmp_path).log(5, values | {"nan": math.nan})
    row = read_metrics(tmp_path)[5]
    assert math.isnan(row.pop("nan"))
    assert row == values


def test_resumed_metrics_equal_uninterrupted_ones(tmp_path):
    def values(step):
        return {"reward_mean": step / 7, "loss": -step / 3} | ({"eval/reward": step / 9} if step > 3 else {})

    whole = RunReporter(tmp_path / "whole")
    for step in range(1, 7):
        whole.log(step, values(step))
    first = RunReporter(tmp_path / "cut")
    for step in range(1, 6):
        first.log(step, values(step) | {"lost": 1.0} if step > 3 else values(step))
    second = RunReporter(tmp_path / "cut", start_step=3)
    for step in range(4, 7):
        second.log(step, values(step))
    assert (tmp_path / "cut/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_resuming_touches_nothing_before_the_first_row(tmp_path):
    RunReporter(tmp_path).log(1, {"a": 1.0})
    RunReporter(tmp_path, start_step=0)
    assert read_metrics(tmp_path) == {1: {"a": 1.0}}


def test_a_row_that_fits_under_the_header_is_added_and_none_written_again(tmp_path, monkeypatch):
    moved = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(b), real(a, b)))
    reporter = RunReporter(tmp_path)
    for step in range(1, 41):
        reporter.log(step, {"a": step / 3} | ({"eval": step / 7} if step % 10 == 0 else {}))
    assert len(moved) == 2, "at the first row, and where a column came"
    rows = read_csv(tmp_path)
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 41)]
    assert [float(row["eval"]) for row in rows if row["eval"]] == [step / 7 for step in (10, 20, 30, 40)]


def test_a_row_that_a_crash_cut_is_left_out_and_written_whole_on_resuming(tmp_path):
    reporter = RunReporter(tmp_path)
    for step in (1, 2):
        reporter.log(step, {"a": step / 3})
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text()[:-4])
    assert read_metrics(tmp_path) == {1: {"a": 1 / 3}}
    RunReporter(tmp_path, start_step=1).log(2, {"a": 2 / 3})
    assert read_metrics(tmp_path) == {1: {"a": 1 / 3}, 2: {"a": 2 / 3}}


@pytest.mark.parametrize("text", ["step,a\n1,high\n", "epoch,a\n1,2\n", "step,a\n,2\n"])
def test_a_spoilt_metrics_file_is_named(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv.*line 2.*move the file away"):
        RunReporter(tmp_path, start_step=9)
    assert (tmp_path / "metrics.csv").read_text() == text


def test_a_metric_that_is_no_number_is_named(tmp_path):
    with pytest.raises(TypeError, match="'reward_mean', got 'high'"):
        RunReporter(tmp_path).log(1, {"reward_mean": "high"})


def test_every_file_is_moved_into_place_whole(tmp_path, monkeypatch):
    moved = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append((Path(a).parent, Path(b).name)), real(a, b)))
    reporter = RunReporter(tmp_path)
    reporter.log(1, {"a": 1.0})
    reporter.save_grid("one", torch.rand(1, 3, 8, 8), ["x"])
    write_summary(tmp_path, {})
    write_report(tmp_path)
    assert [name for _, name in moved] == ["metrics.csv", "one.png", "summary.json", "report.html"]
    assert [folder for folder, _ in moved] == [tmp_path, tmp_path / "samples", tmp_path, tmp_path]


def test_a_tiny_picture_is_enlarged_pixel_by_pixel(tmp_path):
    image = torch.zeros(1, 3, 16, 16)
    image[:, 0, :, :8] = 1.0
    image[:, 2, :, 8:] = 1.0
    path = RunReporter(tmp_path).save_grid("step_1", image, ["left red, right blue"])
    assert path == tmp_path / "samples" / "step_1.png"
    with Image.open(path) as grid:
        pixels = np.asarray(grid)
    red, blue = (pixels == (255, 0, 0)).all(-1), (pixels == (0, 0, 255)).all(-1)
    assert red.sum() == blue.sum() == 192 * 96
    assert ((pixels < 100).all(-1)).any(), "the caption is drawn"


def test_a_grid_holds_all_pictures_and_cuts_bad_pixels(tmp_path):
    images = torch.full((5, 3, 300, 400), 2.0, dtype=torch.bfloat16)
    images[0] = math.nan
    images[1] = -1
    captions = ["word " * 400, HOSTILE, "", "字", "x" * 999]
    with Image.open(RunReporter(tmp_path).save_grid("deep/er", images, captions)) as grid:
        assert grid.width == 3 * (256 + 8) + 8
        assert np.asarray(grid).shape[2] == 3


@pytest.mark.parametrize(
    ("images", "captions", "name", "message"),
    [
        (torch.rand(3, 8, 8), ["a"], "x", r"\(B, 3, H, W\).*got \(3, 8, 8\)"),
        (torch.rand(0, 3, 8, 8), [], "x", r"B > 0, got \(0, 3, 8, 8\)"),
        (torch.rand(2, 3, 8, 8), ["a"], "x", "one caption per picture, got 1 for 2"),
        (torch.rand(1, 3, 8, 8), ["a"], "../x", r"below samples/, got '\.\./x'"),
    ],
)
def test_a_wrong_grid_is_refused(tmp_path, images, captions, name, message):
    with pytest.raises(ValueError, match=message):
        RunReporter(tmp_path).save_grid(name, images, captions)


def test_summary_is_plain_json(tmp_path):
    path = write_summary(
        tmp_path, {"gain": np.float64(0.5), "ci": np.array([0.1, math.nan]), "n": torch.tensor(3), "at": tmp_path}
    )
    assert json.loads(path.read_text()) == {"gain": 0.5, "ci": [0.1, None], "n": 3, "at": str(tmp_path)}


def test_the_report_shows_the_run(tmp_path):
    path = write_report(full_run(tmp_path / "demo"))
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    for shown in ("0.474", "0.551", "+0.077", "+0.051 to +0.104", "512 held-out prompts", "10.2 minutes", "seed 8"):
        assert shown in page.text
    assert "not other data" in page.text
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 * 2 + 2
    header = base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,"))[:8]
    assert header == b"\x89PNG\r\n\x1a\n"
    titles = re.findall(r'aria-label="([^"]*)"', path.read_text())
    assert titles == ["reward_mean", "eval/oracle_reward", "kl", "reward", "share"]
    assert "1.25 0.325" in re.sub(r"<[^>]+>", " ", path.read_text()).replace("  ", " ")
    assert "4.0 0.380" in re.sub(r"<[^>]+>", " ", path.read_text()).replace("  ", " ")


def test_the_report_fetches_nothing_and_runs_nothing(tmp_path):
    path = write_report(full_run(tmp_path, prompt=HOSTILE))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert links and all(link.startswith("data:image/") for link in links)
    assert "http://" not in text and "https://" not in text and "url(" not in text
    assert "default-src 'none'" in text
    assert "</p><script>alert('x')</script>\" onerror='x' &" in page.text, "shown as text"


def test_the_first_and_the_last_grid_are_shown_in_number_order(tmp_path):
    reporter = RunReporter(tmp_path)
    for step in (2, 10, 9):
        reporter.save_grid(f"epoch_{step}", torch.rand(1, 3, 8, 8), ["x"])
    text = write_report(tmp_path).read_text()
    assert [name in text for name in (">epoch_2<", ">epoch_9<", ">epoch_10<")] == [True, False, True]


def test_many_examples_are_folded_away(tmp_path):
    text = write_report(full_run(tmp_path, examples=14)).read_text()
    assert "<summary>2 more</summary>" in text
    assert text.count('class="item better"') == 14


def test_photographs_are_embedded_reduced(tmp_path):
    full_run(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "samples/evaluation/base_000.png")
    assert "data:image/jpeg;base64," in write_report(tmp_path).read_text()
    assert (tmp_path / "report.html").stat().st_size < 400_000


@pytest.mark.parametrize("name", ["../outside.png", "samples/missing.png", None])
def test_a_picture_that_is_not_in_the_run_folder_is_not_embedded(tmp_path, name):
    run_dir = full_run(tmp_path / "run", examples=1)
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    evaluation = json.loads((run_dir / "evaluation.json").read_text())
    evaluation["examples"][0]["base"] = name
    (run_dir / "evaluation.json").write_text(json.dumps(evaluation))
    text = write_report(run_dir).read_text()
    assert text.count("<img") == 1 + 2
    assert "no picture" in text


@pytest.mark.parametrize("missing", ["config.yaml", "metrics.csv", "summary.json", "evaluation.json", "samples"])
def test_a_partial_run_still_reports(tmp_path, missing):
    full_run(tmp_path)
    path = tmp_path / missing
    path.rename(tmp_path / "away")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.open == []
    assert ("were not compared" in page.text) == (missing == "summary.json")


def test_an_empty_run_reports_too(tmp_path):
    assert "were not compared" in write_report(tmp_path).read_text()


def test_unknown_numbers_are_a_dash(tmp_path):
    write_summary(tmp_path, {"reward_base": math.nan, "reward_lora": 0.5, "reward_gain_ci": [None, 0.2]})
    text = write_report(tmp_path).read_text()
    assert '– <span class="arrow">→</span> <b>0.500</b>' in text
    assert "95 % interval" not in text


def test_a_report_without_an_oracle_claims_no_witness(tmp_path):
    write_summary(tmp_path, {"reward_base": 0.25, "reward_lora": 0.2})
    text = write_report(tmp_path).read_text()
    assert '<span class="change worse">−0.050' in text
    assert "independent" not in text


def test_a_run_trained_on_the_oracle_calls_it_no_witness(tmp_path):
    full_run(tmp_path)
    config = {"rewards": ["tinyworld.oracle:oracle_reward=1.0"], "eval_rewards": ["tinyworld.oracle:oracle_reward"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    text = write_report(tmp_path).read_text()
    assert "not an independent measure" in text
    assert "never trained on" not in text and "not other data" not in text


def test_a_single_reward_term_is_not_drawn_twice(tmp_path):
    reporter = RunReporter(tmp_path)
    for step in range(3):
        reporter.log(step, {"reward_mean": step, "reward/a": step})
    assert re.findall(r'aria-label="([^"]*)"', write_report(tmp_path).read_text()) == ["reward_mean"]
    reporter.log(3, {"reward/b": 1.0})
    reporter.log(4, {"reward/b": 2.0})
    names = re.findall(r'aria-label="([^"]*)"', write_report(tmp_path).read_text())
    assert names == ["reward_mean", "reward/a", "reward/b"]


def test_every_held_out_reward_has_its_card(tmp_path):
    names = ("reward", "judge<b>", "oracle", "guidance")
    write_summary(tmp_path, {f"{name}_{side}": 0.5 for name in names for side in ("base", "lora")})
    cards = re.findall(r'<div class="card"><h2>(.*?)</h2>', write_report(tmp_path).read_text())
    assert cards == ["share of facts that hold (oracle)", "reward", "judge&lt;b&gt;"]


def test_a_curve_with_gaps_is_drawn_from_what_is_finite(tmp_path):
    reporter = RunReporter(tmp_path)
    for step, value in enumerate([math.nan, 0.1, math.inf, 0.3], start=1):
        reporter.log(step, {"reward_mean": value, "lonely": value if step == 2 else math.nan})
    text = write_report(tmp_path).read_text()
    assert re.findall(r'aria-label="([^"]*)"', text) == ["reward_mean"]
    assert "nan" not in text.split("<main>")[1].lower()
