"""Time per epoch of the packaged recipes, DDPO and direct, measured in turns. Results go to epoch_time.csv.

python -m benchmarks.direct.epoch_time

A run's total time is then its epochs times the median. It does not depend on other work during the long runs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results_file import write_rows
from benchmarks.sides import Side, take_turns
from reward.cli.flags import ArgumentParser
from rl.config.ddpo_config import DDPOConfig
from rl.config.direct_config import DirectConfig
from rl.config.loading import load_config
from rl.packaged import packaged_recipe, resolve_packaged
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate
from rl.updates.direct import DirectUpdate

RESULTS = Path(__file__).with_name("epoch_time.csv")
COLUMNS = ("side", "epochs", "repeat", "seconds", "cpu_seconds", "peak_mb", "error")
RECIPES = {"ddpo": (DDPOConfig, DDPOUpdate, "ddpo.yaml"), "direct": (DirectConfig, DirectUpdate, "direct.yaml")}


class RecipeSide:
    """A trainer of a packaged recipe, one epoch per call."""

    def __init__(self, settings: dict[str, Any]) -> None:
        config_class, update_class, recipe = RECIPES[settings["recipe"]]
        arguments = ["--output_dir", tempfile.mkdtemp(), "--log_with", "none", *settings["overrides"]]
        config = load_config(config_class, arguments, default_recipe=packaged_recipe(recipe), prog="", description="")
        self.trainer = Trainer.from_config(config, update_class, resolve=resolve_packaged)
        self.trainer.reporter, self.epoch = None, 0

    def run_epoch(self) -> dict[str, float]:
        """Run an epoch; returns its seconds."""
        started = time.perf_counter()
        self.trainer._run_epoch(self.epoch)
        self.epoch += 1
        return {"seconds": time.perf_counter() - started}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("overrides", nargs="*", help="after --: flags of both trainers")
    arguments = parser.parse_args()
    epochs = {
        name: load_config(kind, [], default_recipe=packaged_recipe(recipe), prog="", description="").num_epochs
        for name, (kind, _, recipe) in RECIPES.items()
    }
    sides = [
        Side({"side": name, "epochs": epochs[name]}, "benchmarks.direct.epoch_time:RecipeSide",
             {"recipe": name, "overrides": arguments.overrides})
        for name in RECIPES
    ]
    rows = take_turns(sides, arguments.repeats, warm_up=2)
    write_rows(RESULTS, COLUMNS, rows)
    for column in ("seconds", "cpu_seconds"):
        of = {name: [float(row[column]) * epochs[name] for row in rows if row["side"] == name] for name in RECIPES}
        ratio = median(direct / ddpo for direct, ddpo in zip(of["direct"], of["ddpo"], strict=True))
        whole = ", ".join(f"{name} {median(values):.0f}" for name, values in of.items())
        print(f"{column}: all epochs {whole}; direct over ddpo {ratio:.2f}x")


if __name__ == "__main__":
    main()
