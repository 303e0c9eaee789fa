"""What the pages show is text: markup in prompts, captions, names and numbers stays what it is."""

import json
from html.parser import HTMLParser

import pytest
from PIL import Image

from attention_refine.check_page import page_html
from attention_refine.check_run import find_run_rows
from benchmarks.fuzz.folders import Runs
from benchmarks.fuzz.guard import guarded
from benchmarks.fuzz.prompts import check_record
from rl.reporting import write_report

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


def assert_harmless(html, own=()):
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & (_HARMFUL - set(own))
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert all(source.startswith("data:image/") for source in sources)
    assert "default-src 'none'" in html
    return page


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
