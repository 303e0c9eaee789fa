"""`hyperalign evaluate`: a saved model, or recipes over ten splits, measured and written as a report."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward.cli.train import default_cache, named_columns, training_config
from reward.evaluation import protocols
from reward.evaluation.protocols import RatedFeatures
from reward.evaluation.report import summary, write_report
from reward.evaluation.result import Evaluation
from reward.evaluation.tables import print_report
from reward.files.writing import write_text
from reward.training.rated_data import load_rated, tell_bad, tell_main

if TYPE_CHECKING:
    from reward.backbone.towers import Backbone
    from reward.hyperalign_reward import HyperAlignReward

METRICS_NAME = "metrics.json"
_RECIPE_PREFIX = "hyperalign_"


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that would be ignored, before anything is loaded.

    Raises:
        ValueError: an option of --config without it, or --columns of what is no table.
    """
    if not arguments.config and (arguments.test_data or arguments.test_dataset):
        raise ValueError("Expected --test-data only beside --config; a saved --model is tested on --data itself.")
    if not arguments.config and arguments.backbone:
        raise ValueError("Expected --backbone only beside --config; a saved --model has its own.")
    if arguments.columns and "table" not in (arguments.dataset, arguments.test_dataset):
        raise ValueError(f"Expected --columns only of a table; {arguments.dataset} has its own.")


def run_saved(arguments: argparse.Namespace, reward: "HyperAlignReward", folder: str) -> int:
    """Test a loaded model on the pairs of --data whose prompts it was not trained on."""
    data = _features(arguments, arguments.dataset, arguments.data, reward.backbone)
    return _report(protocols.evaluate_saved(reward, folder, data), arguments.output)


def run_protocol(arguments: argparse.Namespace) -> int:
    """Train and test the recipes of --config over splits by prompt, or on --data and then on --test-data."""
    from reward.backbone.loading import resolve_backbone
    from reward.backbone.towers import Backbone

    if arguments.model:
        raise ValueError("Expected --model or --config, got both: recipes are trained from scratch on every split.")
    if (arguments.test_data is None) != (arguments.test_dataset is None):
        raise ValueError("Expected --test-dataset NAME and --test-data PATH together.")
    if arguments.seeds < 1:
        raise ValueError(f"Expected --seeds of at least 1, got {arguments.seeds}.")
    configs = {_row_name(file): training_config(file, [], arguments.backbone) for file in arguments.config}
    towers = {(config.model.backbone, config.model.pretrained) for config in configs.values()}
    if len(configs) < len(arguments.config) or len(towers) > 1:
        raise ValueError(f"Expected recipes of different names on one backbone, got {list(configs)} on {towers}.")
    name, pretrained = towers.pop()
    backbone = Backbone(resolve_backbone(name, Path.cwd()), pretrained)
    configs = {
        row: dataclasses.replace(config, model=dataclasses.replace(config.model, embed_dim=backbone.embed_dim))
        for row, config in configs.items()
    }
    data = _features(arguments, arguments.dataset, arguments.data, backbone)
    options: dict[str, Any] = {"seeds": range(arguments.seeds), "progress": not arguments.quiet}
    if arguments.test_data:
        other = _features(arguments, arguments.test_dataset, arguments.test_data, backbone)
        found = protocols.cross_database(data, other, configs, **options)
    elif len(configs) > 1:
        found = protocols.ablation(data, configs, **options)
    else:
        found = protocols.single_database(data, configs, **options)
    return _report(found, arguments.output)


def _features(arguments: argparse.Namespace, name: str, path: Path, backbone: "Backbone") -> RatedFeatures:
    dataset = load_rated(name, path, named_columns(arguments) if name == "table" else [], arguments.skip_bad, tell_main)
    tell_bad(dataset)
    return RatedFeatures.of(dataset, backbone, arguments.cache or default_cache(), progress=not arguments.quiet)


def _report(found: Evaluation, folder: Path) -> int:
    """Print the tables, write them, and metrics.json: the last model's figures at the top, its controls' below."""
    print_report(found)
    main = next(row for row in reversed(found.rows) if not row.is_control)
    about = summary(found)
    by_name = {row.pop("name"): row for row in about.pop("rows")}
    metrics = {"row": main.name, "pairs": len(found.pairs["human"]), **by_name[main.name]}
    metrics["others"] = {name: row for name, row in by_name.items() if name != main.name}
    write_report(found, folder)
    write_text(folder / METRICS_NAME, json.dumps(metrics | about, indent=2, allow_nan=False) + "\n")
    print(f"Report in {folder}")
    return 0


def _row_name(file: Path) -> str:
    return file.stem.removeprefix(_RECIPE_PREFIX)
