import io
import sys

import pytest

from reward.evaluation.tables import markdown, print_report


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
