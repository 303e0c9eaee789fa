"""What holds for every template of every room: values are escaped, none is missing, nothing is marked as safe."""

import ast
import re
from pathlib import Path

import jinja2
import pytest

from reward.pages import rendering
from reward.pages.rendering import render

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("reward", "rl", "attention_refine", "tinyworld")
TEMPLATES = sorted(
    str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("templates/*")
)
BASE = "reward/pages/templates/base.html"
MARKUP = "</title></style><script>alert(1)</script>\" onload='x' &amp;"


@pytest.fixture
def template():
    """Render a template given as text."""

    def rendered(text, **values):
        environment = rendering._environment()
        return environment.from_string(text).render(values)

    return rendered


def test_there_are_templates_in_three_rooms():
    rooms = {name.partition("/templates/")[0] for name in TEMPLATES}
    assert {"reward/pages", "reward/evaluation", "rl/report", "attention_refine/caption_check"} <= rooms


def test_values_are_escaped_in_text_and_in_attributes(template):
    text = template('<p title="{{ value }}">{{ value }}</p>', value=MARKUP)
    assert text.count("<") == 2 and text.count('"') == 2 and "&amp;amp;" in text


def test_the_frame_escapes_its_title_and_forbids_everything():
    text = render(BASE, title=MARKUP)
    assert "<script" not in text and text.count("&lt;script&gt;") == 2
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip
    assert "url(" not in text and "@import" not in text and "http" not in text.replace("http-equiv", "")


def test_a_value_that_was_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render(BASE)


@pytest.mark.parametrize("name", ["base.html", "reward/pages/templates/none.html"])
def test_an_unknown_template_is_an_error(name):
    with pytest.raises(jinja2.TemplateNotFound):
        render(name)


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert "<h1>a?b</h1>" in render(BASE, title="a\ud800b")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_marks_nothing_as_safe_and_switches_nothing_off(name):
    rendering._environment().get_template(name)  # compiles
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"\bsafe\b|autoescape|tojson|xmlattr|urlize", text), name
    assert "<script" not in text and "http://" not in text and "https://" not in text, name


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_whole_page_extends_the_frame(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert ("<html" in text) == (name == BASE)
    assert name.endswith(".css") or "<style" not in text or name == BASE


def test_no_source_makes_html_itself():
    """No Markup, no second environment, no escaping by hand."""
    found = []
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module] if isinstance(node, ast.ImportFrom) else []
                if {module.partition(".")[0] for module in modules if module} & {"jinja2", "markupsafe", "html"}:
                    found.append(str(file.relative_to(ROOT)))
    assert found == ["reward/pages/rendering.py"]
