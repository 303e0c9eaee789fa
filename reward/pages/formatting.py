"""Numbers as pages show them; the filters of all templates."""

import math
from collections.abc import Sequence
from typing import Any

UNKNOWN = "–"


def number(value: Any, digits: int = 3) -> str:
    """0.1234 -> "0.123", with a true minus sign; a dash for whatever is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return UNKNOWN
    text = f"{value:.{digits}f}"
    # a tiny negative number is rounded to zero, and zero has no sign
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """As `number`, with its sign, also where it is rounded to zero: an interval from −0.000 on includes zero."""
    text = number(value, digits)
    return text if text == UNKNOWN else f"{'−' if value < 0 else '+'}{text.removeprefix('−')}"


def trend(change: Any, interval: Sequence[float] | None = None) -> str:
    """The style class of a change: "better", "worse", or "same" where it is zero or its interval includes zero."""
    if not isinstance(change, (int, float)) or not math.isfinite(change) or abs(change) < 1e-9:
        return "same"
    if interval and interval[0] <= 0 <= interval[1]:
        return "same"
    return "better" if change > 0 else "worse"


FILTERS = {"number": number, "signed": signed, "trend": trend}
