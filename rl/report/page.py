"""The report of a run as one self-contained HTML page: pictures inside, curves as SVG, no script, nothing fetched."""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from reward.files.plain_json import read_json
from reward.files.plain_yaml import read_plain_yaml
from reward.files.writing import write_text
from rl.monitoring.hacking_alarm import PANEL_FILE
from rl.report.line_chart import LARGEST, Line, line_chart
from rl.report.panel import alarm_note, panel_section
from rl.report.style import STYLE
from rl.runs.metrics_file import read_metrics

_EXAMPLES = 12  # shown at once; the rest is folded away
_PICTURE_SIDE = 384  # larger pictures are embedded reduced to this
_GRID_SIDE = 1200
_SIDES = {"base": "base", "lora": "LoRA"}
_NAMES = {"oracle": "share of facts that hold (oracle)", "reward": "reward"}

Metrics = Mapping[int, Mapping[str, float]]


def write_report(run_dir: Path) -> Path:
    """report.html of a run: one file with everything inside, from whatever the folder holds so far."""
    html = report_html(Path(run_dir), read_metrics(run_dir))
    return write_text(Path(run_dir) / "report.html", html)


def report_html(run_dir: Path, metrics: Metrics) -> str:
    """The page, from the run's metrics and whatever else its folder holds so far.

    Everything shown is escaped, and the page forbids itself scripts and requests: prompts may hold anything.

    Raises:
        ValueError: a file that no run wrote.
    """
    config_text = _read(run_dir / "config.yaml")
    config = (read_plain_yaml(run_dir / "config.yaml") if config_text else None) or {}
    summary, evaluation, panel = (read_json(run_dir / name) for name in ("summary.json", "evaluation.json", PANEL_FILE))
    try:
        html = _page(run_dir, metrics, config_text, config, summary, evaluation, panel)
    # a value of another kind anywhere in them
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {run_dir} to hold what a run writes, got trouble: {error!r}. Look at config.yaml, summary.json, "
            f"evaluation.json, {PANEL_FILE} and metrics.csv."
        ) from error
    # half a surrogate pair, as JSON can hold, is nothing that a file can
    return html.encode("utf-8", "replace").decode("utf-8")


def _page(
    run_dir: Path, metrics: Metrics, config_text: str, config: Mapping[str, Any], summary: Mapping[str, Any],
    evaluation: Mapping[str, Any], panel: Mapping[str, Any],
) -> str:
    sections = [
        _header(run_dir, config, metrics),
        alarm_note(panel),
        _headline(summary),
        _examples(run_dir, evaluation.get("examples", [])),
        panel_section(panel),
        _curves(metrics, panel=bool(panel)),
        _sweep(evaluation),
        _lora_scales(evaluation),
        _sample_grids(run_dir),
        _config(config_text),
        _footnote(config, summary, evaluation),
    ]
    title = escape(f"{run_dir.resolve().name}: fine-tuning report")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _header(run_dir: Path, config: Mapping[str, Any], metrics: Metrics) -> str:
    facts = [("model", config.get("model")), ("prompts", config.get("prompts"))]
    facts += [("reward", reward) for reward in config.get("rewards") or []]
    trained = _sources(config, "rewards")
    for reward in _sources(config, "eval_rewards"):
        facts.append(("also measured" if reward in trained else "witness, never trained on", reward))
    facts += [("last step logged", max(metrics) if metrics else None)]
    items = "".join(f"<li>{name} <code>{escape(str(value))}</code></li>" for name, value in facts if value is not None)
    return f"<header><h1>{escape(run_dir.resolve().name)}</h1><ul class='facts'>{items}</ul></header>"


def _sources(config: Mapping[str, Any], field: str) -> list[str]:
    """The rewards of a config field without their weights."""
    return [str(spec).partition("=")[0] for spec in config.get(field) or []]


def _headline(summary: Mapping[str, Any]) -> str:
    cards = [_comparison_card(name, summary) for name in _compared(summary)]
    facts = [] if cards else ["Base and LoRA were not compared: below is what training has logged"]
    if "n_prompts" in summary:
        facts.append(f"{_number(summary['n_prompts'], 0)} held-out prompts, same seeds on both sides")
    if "guidance_base" in summary and "guidance_lora" in summary:
        base, lora = summary["guidance_base"], summary["guidance_lora"]
        facts.append(f"each at its own best guidance: base {_scale(base)}, LoRA {_scale(lora)}")
    if "epochs" in summary:
        facts.append(f"{_number(summary['epochs'], 0)} epochs")
    if isinstance(summary.get("seconds"), (int, float)):
        facts.append(f"{summary['seconds'] / 60:.1f} minutes in all")
    return f"<section class='cards'>{''.join(cards)}</section><p class='note'>{escape(' · '.join(facts))}</p>"


def _compared(source: Mapping[str, Any]) -> list[str]:
    """Names with a NAME_base and a NAME_lora, the witness first, the trained reward next."""
    names = [key.removesuffix("_lora") for key in source if key.endswith("_lora")]
    names = [name for name in names if f"{name}_base" in source and name != "guidance"]
    return sorted(names, key=lambda name: (name != "oracle", name != "reward"))


def _comparison_card(name: str, summary: Mapping[str, Any]) -> str:
    base, lora = summary.get(f"{name}_base"), summary.get(f"{name}_lora")
    gain = summary.get(f"{name}_gain")
    if gain is None and base is not None and lora is not None:
        gain = lora - base
    text = f"<p class='gain {_sign(gain)}'>{_signed(gain)}"
    interval = summary.get(f"{name}_gain_ci")
    if interval and None not in interval:
        text += f" <small>95 % interval {_signed(interval[0])} to {_signed(interval[1])}</small>"
    return (
        f"<div class='card'><h2>{escape(_NAMES.get(name, name))}</h2>"
        f"<p class='big'>{_number(base)} <span class='arrow'>→</span> <b>{_number(lora)}</b></p>{text}</p></div>"
    )


def _examples(run_dir: Path, examples: Sequence[Mapping[str, Any]]) -> str:
    if not examples:
        return ""
    cards = [_example(run_dir, example) for example in examples]
    more = ""
    if len(cards) > _EXAMPLES:
        folded = "".join(cards[_EXAMPLES:])
        count = len(cards) - _EXAMPLES
        more = f"<details><summary>{count} more</summary><div class='examples'>{folded}</div></details>"
    witness = escape((_compared(examples[0]) or ["reward"])[0])
    return (
        "<section><h2>Before and after</h2><p class='note'>Same prompt and seed, each side at its own best guidance: "
        "left the base model, right with the LoRA. Spread evenly over the evaluation, not picked. Upper edge green "
        f"where the {witness} rose, red where it fell.</p>"
        f"<div class='examples'>{''.join(cards[:_EXAMPLES])}</div>{more}</section>"
    )


def _example(run_dir: Path, example: Mapping[str, Any]) -> str:
    sides = []
    for side, label in _SIDES.items():
        scores = [
            f"{escape(_short(name))} {_number(example[f'{name}_{side}'], 2)}" for name in _compared(example)
        ]
        picture = _picture(run_dir, example.get(side), label, _PICTURE_SIDE)
        sides.append(f"<figure>{picture}<figcaption>{'<br>'.join([f'<b>{label}</b>', *scores])}</figcaption></figure>")
    change = _change(example, (_compared(example) or ["reward"])[0])
    seed = f" <span class='seed'>seed {escape(str(example['seed']))}</span>" if "seed" in example else ""
    prompt = escape(str(example.get("prompt", "")))
    return f"<div class='example {_sign(change)}'><p>{prompt}{seed}</p><div class='pair'>{''.join(sides)}</div></div>"


def _change(example: Mapping[str, Any], name: str) -> float | None:
    base, lora = example.get(f"{name}_base"), example.get(f"{name}_lora")
    return None if base is None or lora is None else lora - base


def _picture(run_dir: Path, name: Any, alt: str, side: int) -> str:
    """An <img> with the picture inside; a note where the run folder does not hold it."""
    root = run_dir.resolve()
    path = (root / str(name)).resolve()
    if not name or not path.is_relative_to(root) or not path.is_file():
        return "<div class='missing'>no picture</div>"
    try:
        data, kind = _embedded(path, side)
    except ValueError:
        return "<div class='missing'>no picture</div>"
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/{kind};base64,{encoded}" alt="{escape(alt)}">'


def _embedded(path: Path, side: int) -> tuple[bytes, str]:
    """A picture's bytes for the page, and their kind: as they are where small, else reduced.

    Raises:
        ValueError: no readable picture.
    """
    from reward.images.reading import read_image
    from rl.runs.pictures import to_picture

    picture = to_picture(read_image(path))
    # Small pictures keep every pixel (the browser enlarges them); photographs as JPEG, a tenth as large.
    small = max(picture.size) <= 128
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG") if small else picture.save(buffer, format="JPEG", quality=88)
    return buffer.getvalue(), "png" if small else "jpeg"


def _curves(metrics: Metrics, *, panel: bool) -> str:
    names = list(dict.fromkeys(name for row in metrics.values() for name in row))
    if panel:  # which shows the evaluations
        names = [name for name in names if not name.startswith("eval/")]
    terms = [name for name in names if name.startswith("reward/")]
    if len(terms) == 1:  # one term of weight 1 repeats reward_mean
        names.remove(terms[0])
    with_spread = {name: name.removesuffix("_mean") + "_std" for name in names if name.endswith("_mean")}
    spreads = {std for std in with_spread.values() if std in names}
    main, rest = [], []
    for name in names:
        if name in spreads:
            continue
        chart = _metric_chart(metrics, name, with_spread.get(name) if with_spread.get(name) in names else None)
        (main if re.match(r"reward|eval/", name) else rest).append(chart)
    main, rest = [chart for chart in main if chart], [chart for chart in rest if chart]
    if not main and not rest:
        return ""
    folded = f"<details><summary>{len(rest)} more curves</summary><div class='charts'>{''.join(rest)}</div></details>"
    return (
        "<section><h2>Training</h2><p class='note'>Faint: every epoch; strong: moving mean; band: deviation within a "
        "batch where it was logged, around the moving mean elsewhere.</p>"
        f"<div class='charts'>{''.join(main)}</div>{folded if rest else ''}</section>"
    )


def _metric_chart(metrics: Metrics, name: str, spread: str | None) -> str:
    rows = [(step, row) for step, row in metrics.items() if abs(row.get(name, math.nan)) < LARGEST]
    points = [(step, row[name], row.get(spread, 0.0) if spread else 0.0) for step, row in rows]
    if len(points) < 2:
        return ""
    steps, values, deviations = zip(*points, strict=True)
    line = Line(name, steps, values, deviations if spread else None)
    return line_chart([line], title=name, x_label="epoch", y_label="mean ± deviation" if spread else "value")


def _sweep(evaluation: Mapping[str, Any]) -> str:
    rows = evaluation.get("sweep", [])
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("model", "guidance")))
    body = []
    for row in rows:
        chosen = row.get("guidance") == evaluation.get(f"guidance_{row.get('model')}")
        cells = "".join(f"<td>{_number(row.get(name))}</td>" for name in columns)
        model = escape(_SIDES.get(row.get("model"), str(row.get("model"))))
        mark = " <small>chosen</small>" if chosen else ""
        style = " class='chosen'" if chosen else ""
        body.append(f"<tr{style}><th>{model}{mark}</th><td>{_scale(row.get('guidance'))}</td>{cells}</tr>")
    head = "".join(f"<th>{escape(_short(name))}</th>" for name in columns)
    charts = "".join(_sweep_chart(rows, name) for name in columns)
    table = (
        f"<table><thead><tr><th>model</th><th>guidance</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )
    return (
        "<section><h2>Guidance</h2><p class='note'>A gain that a higher guidance scale would give for nothing is no "
        "gain: base and LoRA are each judged at their own best scale.</p>"
        f"<div class='charts'>{charts}</div><div class='table'>{table}</div></section>"
    )


def _sweep_chart(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    lines = []
    for model in _SIDES:
        points = sorted((r["guidance"], r[name]) for r in rows if r.get("model") == model and r.get(name) is not None)
        if points:
            lines.append(Line(_SIDES[model], *zip(*points, strict=True), smooth=False))
    if not any(abs(y) < LARGEST for line in lines for y in line.y):
        return ""
    return line_chart(lines, title=_short(name), x_label="guidance scale", y_label="mean over prompts")


def _lora_scales(evaluation: Mapping[str, Any]) -> str:
    rows = sorted(evaluation.get("lora_scales", []), key=lambda row: row["scale"])
    if not rows:
        return ""
    charts = ""
    for name in [name for name in rows[0] if name != "scale"]:
        line = Line("LoRA", *zip(*((row["scale"], row[name]) for row in rows), strict=True), smooth=False)
        charts += line_chart([line], title=_short(name), x_label="strength of the LoRA", y_label="mean over prompts")
    return (
        "<section><h2>Strength of the LoRA</h2><p class='note'>At its best guidance. A held-out reward that is higher "
        f"below 1 says that the LoRA has gone too far.</p><div class='charts'>{charts}</div></section>"
    )


def _short(name: str) -> str:
    """A reward's name without its module: tinyworld.oracle:oracle_reward -> oracle_reward."""
    return name.rpartition(":")[2] or name


def _sample_grids(run_dir: Path) -> str:
    grids = sorted((run_dir / "samples").glob("*.png"), key=_natural_order)
    if not grids:
        return ""
    shown = grids if len(grids) < 3 else [grids[0], grids[-1]]
    figures = "".join(
        f"<figure>{_picture(run_dir, grid.relative_to(run_dir), grid.stem, _GRID_SIDE)}"
        f"<figcaption>{escape(grid.stem)}</figcaption></figure>"
        for grid in shown
    )
    return (
        "<section><details><summary>Samples drawn in training: the first and the last grid of "
        f"{len(grids)} in samples/</summary><div class='grids'>{figures}</div></details></section>"
    )


def _natural_order(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _config(text: str) -> str:
    if not text:
        return ""
    return f"<section><details><summary>config.yaml</summary><pre>{escape(text)}</pre></details></section>"


def _footnote(config: Mapping[str, Any], summary: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    if not any("oracle" in key for source in (summary, *evaluation.get("sweep", [])) for key in source):
        return ""
    if any("oracle" in source for source in _sources(config, "rewards")):
        return "<footer><p>This run was trained on the oracle itself: here the oracle is no witness.</p></footer>"
    return (
        "<footer><p>How far the oracle is a witness: it reads each picture's pixels by fixed rules, was not trained, "
        "and is held out from training. But the reward was trained on the same kinds of facts (shape, colour, count, "
        "relation) as the oracle reads: it is a second way of looking, not different data. The interval is a "
        "bootstrap over prompts; it says nothing about other training seeds.</p></footer>"
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _number(value: Any, digits: int = 3) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def _scale(value: Any) -> str:
    text = _number(value, 2)
    return text.removesuffix("0") if text.endswith("0") else text


def _signed(value: Any) -> str:
    text = _number(value)
    return text if text in ("–",) or text.startswith("−") else f"+{text}"


def _sign(value: Any) -> str:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) < 1e-9:
        return "same"
    return "better" if value > 0 else "worse"
