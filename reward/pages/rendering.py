"""Fill a template: the only way in which this project makes HTML.

Every value is escaped (autoescape), and a value that a template names but does not get is an error (StrictUndefined).
Nothing is ever marked as safe: charts are templates too, and the style sheet is included, not passed in.
"""

import functools
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from reward.pages.formatting import FILTERS

_FOLDER = "/templates/"


def render(template: str, **values: Any) -> str:
    """The text of a template filled with `values`, ready for a UTF-8 file.

    Args:
        template: path from the root of the repository, `ROOM/templates/NAME`; so templates name each other too.
        values: what the template names; strings may hold anything.

    Raises:
        jinja2.TemplateNotFound: no such template.
        jinja2.UndefinedError: the template names a value that was not given.

    Example:
        >>> render("rl/report/templates/report.html", title="<my run>", ...)    # shows &lt;my run&gt;
    """
    text = _environment().get_template(template).render(values)
    # JSON can hold half a surrogate pair, a UTF-8 file cannot
    return text.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment


def _source(template: str) -> str | None:
    """Text of a template file, wherever the packages are installed; None: there is none."""
    room, found, name = template.partition(_FOLDER)
    if not found:
        return None
    file = resources.files(room.replace("/", ".")) / "templates" / name
    return file.read_text(encoding="utf-8") if file.is_file() else None
