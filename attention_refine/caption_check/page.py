"""A caption check as one self-contained HTML page: picture, prompt, caption, answers; no script, nothing fetched."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

_PICTURE_SIDE = 320  # larger pictures are embedded reduced to this
_TINY_SIDE = 128  # smaller ones are shown with their pixels as squares
_NAMES = {
    "prompt_yes": ("P(yes), whole prompt", "is the prompt as a whole answered yes?"),
    "questions_yes": ("P(yes), its facts", "mean over its questions; one that needs a fact answered no counts 0"),
    "caption_coverage": ("covered by the caption", "share of the prompt's facts in a caption written without it"),
    "reward": ("the trained reward", "of the same pictures"),
}
_CONTROL = (
    "Control: the same questions and the same caption held against another picture's prompt; where the control is not "
    "clearly lower, the numbers say nothing."
)
_NO_CONTROL = "There is no control with other prompts: a captioner that says yes to everything would not show."
_SIDE_NAMES = {"base": "base", "lora": "LoRA"}
_STYLE = """
:root { --page: #fbfbfa; --card: #fff; --text: #1c1f23; --soft: #646b73; --rule: #dfe2e6; --track: #eceef1;
        --one: #2f6fde; --good: #1a7f4b; --bad: #c0392b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181c; --card: #1d2126; --text: #e8eaed; --soft: #9aa2ab; --rule: #343a41; --track: #2b3037;
          --one: #77a7ff; --good: #5cc98d; --bad: #f0857a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans",
       sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { margin: 0 0 4px; font-size: 26px; overflow-wrap: anywhere; }
.note, small, .path { color: var(--soft); }
.note { margin: 4px 0 12px; font-size: 14px; max-width: 80ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 14px; margin: 20px 0 14px; }
.card, .check { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.card { padding: 12px 16px; }
.card h2 { margin: 0; font-size: 14px; font-weight: 600; }
.card small { display: block; font-size: 12px; line-height: 1.35; min-height: 2.7em; }
.card p { margin: 4px 0 0; font-variant-numeric: tabular-nums; font-size: 14px; }
.card .big { font-size: 28px; line-height: 1.3; }
.checks { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 14px; }
.check { padding: 14px 16px; }
.check > p { margin: 0 0 10px; font-weight: 600; overflow-wrap: anywhere; }
.side { display: grid; grid-template-columns: 132px minmax(0, 1fr); gap: 6px 16px; }
.side + .side { margin-top: 14px; padding-top: 12px; border-top: 1px solid var(--rule); }
.side img { width: 132px; display: block; border-radius: 6px; }
.side img.tiny { image-rendering: pixelated; }
.missing { width: 132px; aspect-ratio: 1; display: grid; place-items: center; border: 1px dashed var(--rule);
           color: var(--soft); border-radius: 6px; font-size: 12px; }
.side h3 { margin: 0; font-size: 13px; }
.said { margin: 0 0 6px; overflow-wrap: anywhere; }
.said b { font-weight: 500; }
.path { font-size: 12px; overflow-wrap: anywhere; margin: 3px 0 0; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
td, th { padding: 3px 0 3px 10px; text-align: right; font-weight: 400; vertical-align: top; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; white-space: normal; overflow-wrap: anywhere; }
thead th { color: var(--soft); font-size: 12px; border-bottom: 1px solid var(--rule); }
tr.whole td { font-weight: 600; }
tr.control td { color: var(--soft); border-top: 1px solid var(--rule); }
.bar { display: inline-block; width: 46px; height: 8px; border-radius: 4px; background: var(--track); overflow: hidden;
       margin-right: 6px; }
.bar i { display: block; height: 100%; background: var(--one); }
.no .bar i { background: var(--bad); }
.good { color: var(--good); }
.bad { color: var(--bad); }
footer { margin-top: 30px; border-top: 1px solid var(--rule); font-size: 13px; color: var(--soft); }
"""


def page_html(records: Sequence[Record], summary: Mapping[str, Any], *, title: str, limit: int) -> str:
    """The page, from the records and the summary of `check_run`.

    Everything shown is escaped, and the page forbids itself scripts and requests: prompts, captions and file names may
    hold anything.

    Args:
        records: one a picture.
        summary: of all of them.
        title: heading.
        limit: how many pictures, or pairs of a run, are shown: those of least P(yes) first.
    """
    groups = _groups(records)
    shown = groups[: max(0, limit)]
    cut = f" Shown: the {len(shown)} lowest of {len(groups)}." if len(shown) < len(groups) else ""
    title = escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        f"<header><h1>{title}</h1><p class='note'>What a captioner makes of {_count(summary)}. It writes its captions "
        f"without knowing the prompt. {_CONTROL if _has_control(summary) else _NO_CONTROL}</p></header>\n"
        f"<section class='cards'>{''.join(_card(name, summary) for name in _NAMES if name in summary)}</section>\n"
        f"<p class='note'>Least P(yes) first.{cut}</p>\n"
        f"<section class='checks'>\n{''.join(map(_check, shown))}</section>\n"
        "<footer><p>P(yes) is P(yes) / (P(yes) + P(no)) of the answer's first token: a model's leaning, not a "
        "calibrated probability. A caption leaves things out; what it does not say is not covered, but need not be "
        "missing. Words are compared as they stand: a synonym does not cover.</p></footer>\n"
        "</main></body></html>\n"
    )


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """A picture alone, or base and LoRA of a run's example; the worst of the last one first."""
    groups: dict[Any, list[Record]] = {}
    for place, record in enumerate(records):
        pair = Path(record["path"]).name.partition("_")[2] if record.get("side") else place
        groups.setdefault(pair, []).append(record)
    return sorted(groups.values(), key=lambda group: group[-1]["own"]["prompt_yes"])


def _count(summary: Mapping[str, Any]) -> str:
    number = summary["pictures"]
    text = f"{number} picture{'' if number == 1 else 's'}"
    unreadable = summary.get("unreadable")
    return text + (f" ({unreadable} more could not be read)" if unreadable else "")


def _has_control(summary: Mapping[str, Any]) -> bool:
    return any(isinstance(values, Mapping) and values.get("control") is not None for values in summary.values())


def _card(name: str, summary: Mapping[str, Any]) -> str:
    head, note = _NAMES[name]
    values = summary[name]
    if "gain" in values:
        low, high = values["gain_ci"] or (None, None)
        sign = "" if low is None or low <= 0 <= high else "good" if low > 0 else "bad"
        body = f"<p class='big'>{_number(values['base'])} → {_number(values['lora'])}</p>"
        body += f"<p class='{sign}'>{_signed(values['gain'])}{_interval(values['gain_ci'])}</p>"
    else:
        body = f"<p class='big'>{_number(values['own'])}</p>"
    if values.get("control") is not None:
        body += f"<p>control {_number(values['control'])}, margin {_signed(values['margin'])}"
        body += f"{_interval(values['margin_ci'])}</p>"
    return f"<div class='card'><h2>{escape(head)}</h2><small>{escape(note)}</small>{body}</div>"


def _check(group: Sequence[Record]) -> str:
    sides = "".join(_side(record) for record in group)
    return f"<article class='check'><p>{escape(group[0]['prompt'])}</p>{sides}</article>\n"


def _side(record: Record) -> str:
    own, control, path = record["own"], record["control"], Path(record["path"])
    head = ""
    if record.get("side"):
        reward = f" <small>reward {_number(record.get('reward'))}</small>" if record.get("reward") is not None else ""
        head = f"<h3>{escape(_SIDE_NAMES.get(record['side'], record['side']))}{reward}</h3>"
    covers = [fact["is_covered"] for fact in own["facts"]]
    # by rule there is one question a fact, in the same order, and those for "exactly one" behind them; a user's own
    # questions stand for themselves
    ruled, more = own["answers"][: len(covers)], own["answers"][len(covers) :]
    aligned = [fact["kind"] for fact in own["facts"]] == [answer["kind"] for answer in ruled]
    aligned = aligned and all("exactly one " in answer["question"] for answer in more)
    rows = [_row("the whole prompt", own["prompt_yes"], _number(own["caption_coverage"]), "whole")]
    for place, answer in enumerate(own["answers"]):
        paired = aligned and place < len(covers)
        text = own["facts"][place]["text"] if paired else answer["question"]
        rows.append(_row(text, answer["yes"], _mark(covers[place]) if paired else ""))
    if not aligned:
        rows += [_row(fact["text"], None, _mark(fact["is_covered"])) for fact in own["facts"]]
    if control:
        text = f"control: {control['prompt']}"
        rows.append(_row(text, control["prompt_yes"], _number(control["caption_coverage"]), "control"))
    said = escape(record["caption"]) or "–"
    return (
        f"<div class='side'><div>{_picture(path)}<p class='path'>{escape(path.name)}</p></div><div>{head}"
        f"<p class='said'><small>says</small> <b>{said}</b></p>"
        f"<table><thead><tr><th></th><th>P(yes)</th><th>caption</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div></div>"
    )


def _row(text: str, yes: float | None, caption: str, style: str = "") -> str:
    cell = "<td></td>"
    if yes is not None:
        width = round(100 * min(max(yes, 0.0), 1.0))
        bar = f"<span class='bar'><i style='width:{width}%'></i></span>"
        cell = f"<td class='{'no' if yes < 0.5 else ''}'>{bar}{_number(yes)}</td>"
    return f"<tr class='{style}'><td>{escape(text)}</td>{cell}<td>{caption}</td></tr>"


def _mark(holds: bool) -> str:
    return "<span class='good'>✓</span>" if holds else "<span class='bad'>✗</span>"


def _picture(path: Path) -> str:
    from attention_refine.caption_check.check import to_pictures

    try:
        [picture] = to_pictures(path)
    except ValueError:
        return "<div class='missing'>not there any more</div>"
    small = max(picture.size) <= _TINY_SIDE
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG") if small else picture.save(buffer, format="JPEG", quality=85)
    kind, data = "png" if small else "jpeg", base64.b64encode(buffer.getvalue()).decode()
    style = " class='tiny'" if small else ""
    return f"<img{style} alt='' src='data:image/{kind};base64,{data}'>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _signed(value: float | None) -> str:
    text = _number(value)
    return text if value is None or value < 0 else f"+{text}"


def _interval(bounds: Sequence[float] | None) -> str:
    return f" <small style='display:inline'>[{_signed(bounds[0])}, {_signed(bounds[1])}]</small>" if bounds else ""
