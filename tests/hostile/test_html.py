"""What the pages show is text: markup in prompts, captions, names and numbers stays what it is."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from attention_refine.caption_check.page import page_html
from attention_refine.caption_check.run import find_run_rows
from benchmarks.fuzz.folders import Runs
from benchmarks.fuzz.guard import guarded
from benchmarks.fuzz.prompts import check_record
from reward.evaluation.page import page_html as evaluation_page
from reward.evaluation.result import Evaluation
from rl.report.page import write_report

MARKUP = "</p></style><script>alert(1)</script><img src=x onerror='x'>\" onload=\"x' &amp; <i>"
_HARMFUL = {"script", "iframe", "object", "embed", "link", "base", "form", "i"}


class Page(HTMLParser):
    """Elements and attributes of a page, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def assert_harmless(html):
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & _HARMFUL
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert all(source.startswith("data:image/") for source in sources)
    assert "default-src 'none'" in html
    return page


def test_the_caption_check_page(tmp_path):
    path = tmp_path / "<b onclick=x>.png"
    Image.new("RGB", (2, 2)).save(path)
    record = check_record(MARKUP, MARKUP, str(path)) | {"side": MARKUP, "reward": 0.5}
    html = page_html([record], {"pictures": 1, "unreadable": 2}, title=MARKUP, limit=5)
    page = assert_harmless(html)
    assert "<script>alert(1)</script>" in page.text and "<b onclick=x>.png" in page.text


def test_the_evaluation_page():
    found = Evaluation("saved-model", MARKUP, f"other {MARKUP}", notes=[MARKUP], controls={f"control {MARKUP}"})
    human = np.arange(6.0)
    found.add(0, [MARKUP, "x"] * 3, human, {MARKUP: human, f"control {MARKUP}": -human})
    page = assert_harmless(evaluation_page(found.summarise([(MARKUP, f"control {MARKUP}")], samples=5)))
    # twice in the page's title and its heading; two facts, two rows, both names of the gap, a chart, two notes
    assert page.text.count("<script>alert(1)</script>") == 13


def texts_replaced(value):
    """JSON data with markup for every text that is a name, and in every key."""
    if isinstance(value, dict):
        return {key: texts_replaced(inner) for key, inner in value.items()} | {f"{MARKUP}_base": 1, f"{MARKUP}_lora": 2}
    if isinstance(value, list):
        return [texts_replaced(inner) for inner in value]
    return MARKUP if isinstance(value, str) and "/" not in value else value


@pytest.mark.parametrize("name", ["evaluation.json", "summary.json"])
def test_the_report(tmp_path, name):
    run = Runs(tmp_path).folder
    (run / name).write_text(json.dumps(texts_replaced(json.loads((run / name).read_text()))))
    (run / "config.yaml").write_text(json.dumps({"model": MARKUP, "rewards": [MARKUP], "eval_rewards": [MARKUP]}))
    (run / "metrics.csv").write_text('step,"reward</svg><script>x</script>"\n1,1\n2,2\n')
    page = assert_harmless(write_report(run).read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize("field", ["num_prompts", "group_size", "held_out", "epoch"])
def test_the_panel_of_the_report(tmp_path, field):
    run = Runs(tmp_path).folder
    panel = json.loads((run / "hacking_panel.json").read_text())
    if field == "epoch":
        panel["looks"][-1]["epoch"] = MARKUP
    elif field == "held_out":
        for look in panel["looks"]:
            look["changes"][MARKUP] = look["changes"].pop("oracle") | {"metric": MARKUP}
            look["suspicious"] = look["alarming"] = [MARKUP]
        panel["held_out"] = [MARKUP]
    else:
        panel[field] = MARKUP
    (run / "hacking_panel.json").write_text(json.dumps(panel))
    with guarded(tmp_path):
        try:
            html = write_report(run).read_text(encoding="utf-8")
        except ValueError as error:
            assert field == "epoch" and "Expected" in str(error)  # a chart needs a number
            return
    assert "<script>" in assert_harmless(html).text


@pytest.mark.parametrize("file", ["evaluation.json", "summary.json", "hacking_panel.json", "config.yaml"])
@pytest.mark.parametrize("content", ["[]", "{", "7", "[" * 5000, '{"a": NaN, "examples": 3, "looks": [3]}', "\ufeff"])
def test_a_report_of_what_no_run_wrote(tmp_path, file, content):
    run = Runs(tmp_path).folder
    (run / file).write_text(content)
    with guarded(tmp_path):
        try:
            assert_harmless(write_report(run).read_text(encoding="utf-8"))
        except ValueError as error:
            assert str(run) in str(error)


def test_half_a_surrogate_pair_and_damaged_pictures_do_not_cost_the_report(tmp_path):
    run = Runs(tmp_path).folder
    text = (run / "evaluation.json").read_text().replace("<b>x", "\\ud800 x")
    (run / "evaluation.json").write_text(text)
    (run / "samples" / "epoch_².png").write_bytes(b"no picture")
    (run / "samples" / "evaluation" / "base_000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with guarded(tmp_path):
        html = write_report(run).read_text(encoding="utf-8")
    assert "no picture" in html and "? x" in html


def test_numbers_at_the_end_of_their_range_do_not_cost_the_report(tmp_path):
    run = Runs(tmp_path).folder
    rows = ["1,1e308,-1e308", "2,-1e308,1e308", "3,5e-324,0", "9007199254740992,1,inf", "9007199254740991,1,1"]
    (run / "metrics.csv").write_text("\n".join(["step,reward_mean,reward_std", *rows]))
    assert_harmless(write_report(run).read_text())
    for bad in ("9" * 30 + ",1,1", "x" * 200_000 + ",1,1", "\0,1,1"):
        (run / "metrics.csv").write_text(f"step,reward_mean,reward_std\n{bad}\n")
        with pytest.raises(ValueError, match="in line"):
            write_report(run)


@pytest.mark.parametrize(
    "example",
    [{"prompt": 5}, {"prompt": " "}, {"prompt": "\ud800"}, {"reward_base": "<i>"}, {"reward_lora": float("nan")},
     {"base": 5}, {"lora": "a\0"}],
)  # fmt: skip
def test_a_caption_check_of_what_no_run_wrote(tmp_path, example):
    sound = {"prompt": "x", "base": "a.png", "lora": "b.png", "reward_base": 1, "reward_lora": None}
    (tmp_path / "evaluation.json").write_text(json.dumps({"examples": [sound]}))
    assert len(find_run_rows(tmp_path)[0]) == 2
    (tmp_path / "evaluation.json").write_text(json.dumps({"examples": [sound | example]}))
    with pytest.raises(ValueError, match="as a run writes it"):
        find_run_rows(tmp_path)
