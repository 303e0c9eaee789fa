import html.parser

import pytest
from PIL import Image

from attention_refine.caption_check.page import page_html

EVIL = "<script>alert('x')</script> & \"a\" 'ring'"


class Page(html.parser.HTMLParser):
    """Collects tags and text, and complains where one is left open."""

    void = {"meta", "img"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def prompt_check(prompt, yes, coverage=0.5, question="Is there a ring in the picture?"):
    return {
        "prompt": prompt, "prompt_yes": yes, "questions_yes": yes, "caption_coverage": coverage,
        "answers": [{"question": question, "kind": "thing", "yes": yes, "depends_on": []}],
        "facts": [{"text": "a ring", "kind": "thing", "is_covered": coverage == 1}],
    }  # fmt: skip


def record(path, prompt="a ring", yes=0.5, caption="a square", control=None, **more):
    return {"path": str(path), "prompt": prompt, "caption": caption, "own": prompt_check(prompt, yes),
            "control": control and prompt_check(control, 0.1)} | more  # fmt: skip


def values(**more):
    return {"own": 0.5, "control": None, "margin": None, "margin_ci": None} | more


def summary(count=1, **more):
    return {"pictures": count, "unreadable": 0} | {
        name: values() for name in ("prompt_yes", "questions_yes", "caption_coverage")
    } | more


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "one.png"
    Image.new("RGB", (48, 48), "red").save(path)
    return path


def test_everything_from_outside_is_escaped(picture):
    hostile = record(picture.with_name(f"{EVIL}.png".replace("/", "")), EVIL, caption=EVIL, control=EVIL)
    hostile["own"]["answers"][0] |= {"question": EVIL, "kind": EVIL}
    hostile["own"]["facts"][0]["text"] = EVIL
    text = page_html([hostile], summary(), title=EVIL, limit=9)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags} and "<script" not in text
    # the title twice, prompt, caption, question, fact, control
    assert sum(EVIL in piece for piece in page.text) == 7
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_it_is_said_whether_there_is_a_control(picture):
    without = page_html([record(picture)], summary(), title="t", limit=9)
    given = summary(prompt_yes=values(control=0.125, margin=0.375, margin_ci=[0.25, 0.5]))
    with_one = page_html([record(picture, control="a square")], given, title="t", limit=9)
    assert "no control" in without and "no control" not in with_one
    assert "control 0.12, margin +0.38" in with_one and "control: a square" in with_one


def test_the_page_may_fetch_nothing(picture):
    page = Page(page_html([record(picture)], summary(), title="t", limit=9))
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script" not in policy
    assert all(a["src"].startswith("data:image/") for tag, a in page.tags if tag == "img")


def test_the_worst_come_first_and_the_cut_is_told(picture):
    records = [record(picture, f"prompt {i}", yes) for i, yes in enumerate((0.9, 0.1, 0.5))]
    text = page_html(records, summary(3), title="t", limit=2)
    assert text.index("prompt 1") < text.index("prompt 2") and "prompt 0" not in text
    assert "the 2 lowest of 3" in text


def test_base_and_lora_of_an_example_stand_together(tmp_path):
    for name in ("base_000.png", "lora_000.png", "base_001.png", "lora_001.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    records = [record(tmp_path / f"{side}_{i:03d}.png", f"prompt {i}", 0.5 - 0.2 * i, side=side, reward=0.25)
               for side in ("base", "lora") for i in range(2)]  # fmt: skip
    gain = values(base=0.5, lora=0.25, gain=-0.25, gain_ci=[-0.5, -0.125])
    text = page_html(records, summary(4, prompt_yes=gain, reward=gain), title="t", limit=9)
    page = Page(text)
    assert text.count("<article") == 2 and text.index("prompt 1") < text.index("prompt 0")
    assert [tag for tag, _ in page.tags].count("img") == 4
    shown = " ".join("".join(page.text).split())
    assert "0.50 → 0.25 −0.25 [−0.50, −0.12]" in shown and "reward 0.25" in shown
    assert text.count('class="change worse"') == 2


def test_a_picture_that_has_gone_and_one_with_own_questions(tmp_path, picture):
    gone = record(tmp_path / "gone.png")
    own = record(picture)
    own["own"]["answers"] = [{"question": "Is it round?", "kind": "shape", "yes": 0.2, "depends_on": []}]
    text = page_html([gone, own], summary(2, unreadable=3), title="t", limit=9)
    assert "not there any more" in text and "Is it round?" in text and "3 more could not be read" in text


def test_a_fact_and_its_question_share_a_row_and_exactly_one_comes_behind(picture):
    own = record(picture)
    more = {"question": "Is there exactly one ring in the picture?", "kind": "number", "yes": 0.3, "depends_on": [0]}
    own["own"]["answers"].append(more)
    text = page_html([own], summary(1), title="t", limit=1)
    assert "exactly one ring" in text and "Is there a ring" not in text and text.count("<td>a ring</td>") == 1


def test_large_pictures_are_embedded_small(tmp_path):
    path = tmp_path / "large.png"
    Image.effect_noise((1500, 1000), 80).convert("RGB").save(path)
    assert len(page_html([record(path)], summary(), title="t", limit=1)) < 120_000
