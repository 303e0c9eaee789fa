"""Time of a training run with cached features, from the data set to the saved model, without control models.

python benchmarks/agiqa3k/training_time.py --encoder runs/agiqa3k/encoder --data AGIQA-3K --work runs/agiqa3k

The time of `train` is measured. It includes loading the backbone and reading the cache, which run.py has filled. CPU
time is reported too, because other work on the machine disturbs wall time. training_time.csv is overwritten.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from benchmarks.agiqa3k.recipe import ROWS, row_config  # noqa: E402
from benchmarks.results_file import write_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.datasets import load_dataset  # noqa: E402
from reward.training.train import train  # noqa: E402

RESULTS = Path(__file__).with_name("training_time.csv")
COLUMNS = ("case", "repeat", "epochs", "batch_size", "cpu_seconds", "seconds")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="folder that build_encoder.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with data.csv and images/")
    parser.add_argument("--work", type=Path, required=True, help="--work folder of run.py, with the features")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    full = row_config(*ROWS["full"])
    model = dataclasses.replace(full.model, backbone=f"local-dir:{arguments.encoder}", pretrained=None)
    full = dataclasses.replace(full, model=model, controls=False)
    cases = {"recipe": full, "recipe, one epoch in batches of 8": dataclasses.replace(full, epochs=1, batch_size=8)}
    rows = []
    for repeat in range(arguments.repeats):
        for case, config in cases.items():
            with tempfile.TemporaryDirectory() as folder:
                cpu, clock = time.process_time(), time.monotonic()
                data = load_dataset("agiqa-3k", arguments.data)
                cache = arguments.work / "features"
                train(config, data, Path(folder) / "model", cache_dir=cache, progress=False)
                spent = {"cpu_seconds": time.process_time() - cpu, "seconds": time.monotonic() - clock}
            about = {"case": case, "repeat": repeat, "epochs": config.epochs, "batch_size": config.batch_size}
            rows.append(about | spent)
            print(rows[-1], flush=True)
    write_rows(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
