"""`hyperalign train`: from its arguments to a trained model's folder, and what is printed of it."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward.files.quoting import quoted
from reward.named_models import open_clip_name
from reward.training.controls import in_words
from reward.training.rated_data import load_rated, tell_bad, tell_main
from reward.training.recipe import TrainingConfig, load_training_config
from reward.training.train import train


def run(arguments: argparse.Namespace, config: TrainingConfig) -> int:
    """Train as `reward.training.train.train` does; the main process prints what was measured."""
    dataset = load_rated(arguments.dataset, arguments.data, named_columns(arguments), arguments.skip_bad, tell_main)
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        tell_bad(dataset)
    metrics = train(
        config, dataset, arguments.output,
        cache_dir=arguments.cache or default_cache(), resume=arguments.resume, progress=not arguments.quiet,
    )  # fmt: skip
    if is_main:
        print(_summary(metrics, dataset.name, arguments.output))
    return 0


def named_columns(arguments: argparse.Namespace) -> list[str]:
    """The columns that --columns and --image-column, --prompt-column, --score-column name, as ROLE=NAME."""
    single = {role: getattr(arguments, f"{role}_column") for role in ("image", "prompt", "score")}
    return [*arguments.columns, *(f"{role}={name}" for role, name in single.items() if name)]


def training_config(file: Path | None, changes: Sequence[str], backbone: str | None) -> TrainingConfig:
    """The recipe of --config, changed by --set FIELD=VALUE (values as in YAML) and --backbone.

    Raises:
        ValueError, TypeError: an unknown field, a value that it cannot have, two values of one field, or a backbone
            that --set and --backbone name differently.
    """
    overrides: dict[str, Any] = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"Expected --set FIELD=VALUE but got {quoted(change)}")
        value = _yaml(value)
        if overrides.get(field, value) != value:
            raise ValueError(
                f"Expected one value of --set {field} but got {quoted(overrides[field])} and {quoted(value)}"
            )
        overrides[field] = value
    if backbone is not None:
        for field, value in _named_towers(backbone).items():
            if overrides.get(field, value) != value:
                raise ValueError(f"Expected one backbone but got {quoted(overrides[field])} and {quoted(backbone)}")
            overrides[field] = value
    return load_training_config(file, overrides)


def _named_towers(backbone: str) -> dict[str, str | None]:
    """The recipe's fields that NAME/TAG sets; a plain name leaves the recipe's own tag."""
    found = open_clip_name(backbone)
    if found is None or found[1] is None:
        return {"model.backbone": backbone}
    return {"model.backbone": found[0], "model.pretrained": found[1]}


def default_cache() -> Path:
    """Where features are kept unless told: below $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperalign" / "features"


def _yaml(value: str) -> Any:
    from reward.files.plain_yaml import parse_plain_yaml

    try:
        return parse_plain_yaml(value)
    except ValueError as error:
        raise ValueError(f"Expected a YAML value after --set FIELD= but got {quoted(value)}: {error}") from error


def _summary(metrics: dict[str, Any], dataset: str, folder: Path) -> str:
    lines = [f"{metrics['epochs']} epochs, kept: {metrics['best_epoch']} (validation SRCC {_n(metrics['val_srcc'])})"]
    for name, found in (("model", metrics["test"]), *metrics["controls"].items()):
        if found:
            numbers = "  ".join(f"{title} {_n(found[key])}" for title, key in (("SRCC", "srcc"), ("PLCC", "plcc")))
            lines.append(f"  test part of {dataset}, {name}: {numbers}")
    test = metrics["test"]
    for name, found in metrics["controls"].items():
        if test and found and None not in (test["srcc"], found["srcc"]):
            lines += [words] if (words := in_words(name, test["srcc"] - found["srcc"])) else []
    lines.append(f"Model in {folder}. Score with it: hyperalign score PATH... --prompt TEXT --model {folder}")
    return "\n".join(lines)


def _n(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
