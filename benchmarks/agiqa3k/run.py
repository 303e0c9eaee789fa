"""What does each part of HyperAlign give on real human scores? Ten prompt-disjoint splits of AGIQA-3K.

python benchmarks/agiqa3k/run.py --encoder runs/agiqa3k/encoder --data AGIQA-3K --work runs/agiqa3k
python benchmarks/agiqa3k/run.py --encoder runs/agiqa3k/encoder --data AGIQA-3K --work runs/agiqa3k --sweeps

The encoder is build_encoder.py's. Its features of all pictures are computed once (minutes), then each row of ROWS is
trained on every split, with the controls of reward/evaluation.py. A finished split is kept under --work and not done
again. results.csv gets a line for a row and split, summary.json means, intervals over prompts and gaps.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(ROOT))

from benchmarks.agiqa3k.recipe import ROWS, SWEEPS, row_config  # noqa: E402
from reward.backbone import Backbone  # noqa: E402
from reward.datasets import load_dataset  # noqa: E402
from reward.evaluation import SEEDS, RatedFeatures, ablation  # noqa: E402
from reward.evaluation_report import print_report, write_report  # noqa: E402
from reward.evaluation_result import Evaluation  # noqa: E402
from reward.file_writing import write_text  # noqa: E402

HERE = Path(__file__).parent


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="folder that build_encoder.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with data.csv and images/")
    parser.add_argument("--work", type=Path, required=True, help="features and finished splits are kept here")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the splits and of training")
    parser.add_argument("--sweeps", action="store_true", help="the sweeps instead of the rows")
    arguments = parser.parse_args()

    backbone = Backbone(f"local-dir:{arguments.encoder}")
    data = RatedFeatures.of(load_dataset("agiqa-3k", arguments.data), backbone, arguments.work / "features")
    name = "sweeps" if arguments.sweeps else "rows"
    evaluation = run_splits(data, name, arguments.seeds, arguments.work / name)
    report = arguments.work / name / "report"
    write_report(evaluation, report, scatter=False)
    print_report(evaluation)
    prefix = "" if name == "rows" else "sweeps_"
    for kind in ("results.csv", "summary.json"):
        shutil.copyfile(report / kind, HERE / f"{prefix}{kind}")


def run_splits(data: RatedFeatures, name: str, seeds: Sequence[int], folder: Path) -> Evaluation:
    """Train and test all rows on each split that `folder` does not hold yet; everything that it then holds of `seeds`.

    Args:
        name: rows or sweeps.
    """
    rows = {"rows": ROWS, "sweeps": SWEEPS}[name]
    configs = {row: row_config(*what) for row, what in rows.items()}
    splits = []
    for seed in seeds:
        path = folder / f"split_{seed}.json"
        if not path.is_file():
            start = time.monotonic()
            found = ablation(data, configs, seeds=[seed], samples=2, progress=False)
            kept = {
                "configs": {row: config.to_dict() for row, config in configs.items()},
                "controls": sorted(found.controls),
                "prompts": list(found.pairs["prompt"]),
                "human": found.pairs["human"].tolist(),
                "predictions": {row: values.tolist() for row, values in found.predictions.items()},
                "seconds": round(time.monotonic() - start, 1),
            }
            write_text(path, json.dumps(kept))
            print(f"split {seed}: {len(kept['predictions'])} rows in {kept['seconds']} s", flush=True)
        splits.append((seed, json.loads(path.read_text(encoding="utf-8"))))
    return joined(data.name, splits)


def joined(dataset: str, splits: Sequence[tuple[int, dict]]) -> Evaluation:
    """One evaluation of the splits, with the gap of the last row (the full model) over every other."""
    found = Evaluation("ablation", dataset, dataset)
    for seed, kept in splits:
        predicted = {row: np.array(values) for row, values in kept["predictions"].items()}
        found.add(seed, kept["prompts"], np.array(kept["human"]), predicted)
        found.controls |= set(kept["controls"])
    last = list(splits[0][1]["configs"])[-1]
    return found.summarise([(last, row) for row in found.predictions if row != last])


if __name__ == "__main__":
    main()
