"""The report of a run: one HTML file from whatever files the run folder has so far. Layout: `templates/report.html`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward.files.plain_json import read_json
from reward.files.plain_yaml import read_plain_yaml
from reward.files.quoting import shortened
from reward.files.writing import write_text
from reward.pages.rendering import render
from rl.monitoring.hacking_alarm import PANEL_FILE
from rl.report.comparison import cards, examples, headline_facts, witness
from rl.report.curves import Metrics, training_curves
from rl.report.panel import panel_values
from rl.report.pictures import sample_grids
from rl.report.sweeps import guidance_sweep, lora_scales
from rl.runs.metrics_file import read_metrics

_FIRST_EXAMPLES = 12  # the rest is folded away


def write_report(run_dir: Path) -> Path:
    """Write report.html of a run; returns its path."""
    html = report_html(Path(run_dir), read_metrics(run_dir))
    return write_text(Path(run_dir) / "report.html", html)


def report_html(run_dir: Path, metrics: Metrics) -> str:
    """The page as HTML, from the run's metrics (epoch -> name -> value) and the other files of its folder.

    Raises:
        ValueError: a file of the folder is malformed.
    """
    config_text = _read(run_dir / "config.yaml")
    config = (read_plain_yaml(run_dir / "config.yaml") if config_text else None) or {}
    summary, evaluation, panel = (read_json(run_dir / name) for name in ("summary.json", "evaluation.json", PANEL_FILE))
    try:
        pairs = evaluation.get("examples", [])
        return render(
            "rl/report/templates/report.html",
            title=run_dir.resolve().name,
            run_facts=_run_facts(config, metrics),
            cards=cards(summary),
            headline_facts=headline_facts(summary),
            witness=witness(pairs),
            examples=examples(run_dir, pairs),
            first_examples=_FIRST_EXAMPLES,
            panel=panel_values(panel),
            curves=training_curves(metrics, panel=bool(panel)),
            guidance=guidance_sweep(evaluation),
            lora_scales=lora_scales(evaluation),
            grids=sample_grids(run_dir),
            config_text=config_text,
            oracle=_oracle_role(config, summary, evaluation),
        )
    # some value in the files has a wrong type
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {run_dir} to hold the files of a run, got a malformed one: {shortened(repr(error))}. Check "
            f"config.yaml, summary.json, evaluation.json, {PANEL_FILE} and metrics.csv."
        ) from error


def _run_facts(config: Mapping[str, Any], metrics: Metrics) -> list[tuple[str, str]]:
    """What was trained, as (name, value)."""
    facts = [("model", config.get("model")), ("prompts", config.get("prompts"))]
    facts += [("reward", reward) for reward in config.get("rewards") or []]
    trained = _sources(config, "rewards")
    for reward in _sources(config, "eval_rewards"):
        facts.append(("also measured" if reward in trained else "held out, never trained on", reward))
    facts += [("last step logged", max(metrics) if metrics else None)]
    return [(name, str(value)) for name, value in facts if value is not None]


def _sources(config: Mapping[str, Any], field: str) -> list[str]:
    """The rewards of a config field without their weights."""
    return [str(spec).partition("=")[0] for spec in config.get(field) or []]


def _oracle_role(config: Mapping[str, Any], summary: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """How the run used tinyworld's oracle: "witness" (held out), "trained on", or empty (not used)."""
    if not any("oracle" in key for source in (summary, *evaluation.get("sweep", [])) for key in source):
        return ""
    return "trained on" if any("oracle" in source for source in _sources(config, "rewards")) else "witness"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
