"""Ablation of HyperAlign on real human scores: ten prompt-disjoint splits of AGIQA-3K.

python benchmarks/agiqa3k/run.py --encoder runs/agiqa3k/encoder --data AGIQA-3K --work runs/agiqa3k
python benchmarks/agiqa3k/run.py --encoder runs/agiqa3k/encoder --data AGIQA-3K --work runs/agiqa3k --part sweeps

The encoder is made by build_encoder.py. Its features of all pictures are computed once (minutes). Then each row of ROWS
is trained on every split, with the controls of reward/evaluation/protocols.py. Finished splits are saved in --work and
not run again. NAME_results.csv has one line per row and split; NAME_summary.json has means, intervals over prompts and
gaps. --part choices compares settings of the recipe on other splits.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from benchmarks.agiqa3k.recipe import CHOICES, ROWS, SWEEPS, row_config  # noqa: E402
from benchmarks.results_file import write_rows  # noqa: E402
from reward.backbone.towers import Backbone  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.datasets import load_dataset  # noqa: E402
from reward.evaluation.protocols import SEEDS, RatedFeatures, ablation  # noqa: E402
from reward.evaluation.report import summary, write_report  # noqa: E402
from reward.evaluation.result import SAMPLES, Evaluation  # noqa: E402
from reward.evaluation.tables import print_report  # noqa: E402
from reward.files.writing import write_text  # noqa: E402
from reward.training.recipe import TrainingConfig  # noqa: E402

HERE = Path(__file__).parent
PARTS = {"rows": (ROWS, SEEDS), "sweeps": (SWEEPS, SEEDS), "choices": (CHOICES, tuple(range(100, 106)))}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="folder that build_encoder.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with data.csv and images/")
    parser.add_argument("--work", type=Path, required=True, help="folder for features and finished splits")
    parser.add_argument("--part", choices=PARTS, default="rows")
    parser.add_argument("--name", help="name of the results; default: the part's")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of splits and training; default: the part's")
    arguments = parser.parse_args()

    backbone = Backbone(f"local-dir:{arguments.encoder}")
    data = RatedFeatures.of(load_dataset("agiqa-3k", arguments.data), backbone, arguments.work / "features")
    rows, seeds = PARTS[arguments.part]
    configs = {row: row_config(*what) for row, what in rows.items()}
    name, seeds = arguments.name or arguments.part, arguments.seeds or seeds
    evaluation = run_splits(data, configs, seeds, arguments.work / name, controls=arguments.part == "rows")
    write_report(evaluation, arguments.work / name / "report", scatter=False)
    print_report(evaluation)
    write_results(evaluation, HERE, name)


def run_splits(
    data: RatedFeatures,
    configs: Mapping[str, TrainingConfig],
    seeds: Sequence[int],
    folder: Path,
    samples: int = SAMPLES,
    controls: bool = True,
) -> Evaluation:
    """Train and test all rows on each split that is not in `folder` yet; returns the results of all `seeds`.

    Args:
        configs: row -> its config; the last row is the full model, which is compared with all others.
        samples: number of bootstrap samples.
        controls: as in `reward.evaluation.protocols.ablation`.

    Raises:
        ValueError: `folder` has a split of other configs or features.
    """
    expected = {"data": fingerprint(data), "configs": {row: config.to_dict() for row, config in configs.items()}}
    splits = []
    for seed in seeds:
        path = folder / f"split_{seed}.json"
        if not path.is_file():
            start = time.monotonic()
            # no intervals per split; `joined` computes them over all splits
            found = ablation(data, configs, seeds=[seed], controls=controls, samples=2, progress=False)
            kept = expected | {
                "controls": sorted(found.controls),
                "prompts": list(found.pairs["prompt"]),
                "human": found.pairs["human"].tolist(),
                "predictions": {row: values.tolist() for row, values in found.predictions.items()},
                "seconds": round(time.monotonic() - start, 1),
            }
            write_text(path, json.dumps(kept))
            print(f"split {seed}: {len(kept['predictions'])} rows in {kept['seconds']} s", flush=True)
        kept = json.loads(path.read_text(encoding="utf-8"))
        if changed := [part for part, value in expected.items() if kept[part] != value]:
            raise ValueError(
                f"Expected {path} to be of this run's {' and '.join(changed)} but it is of others; remove it, or name "
                "another --work"
            )
        splits.append((seed, kept))
    return joined(data.name, list(configs), splits, samples)


def write_results(evaluation: Evaluation, folder: Path, name: str) -> None:
    """Write NAME_results.csv, one line per row and split, and NAME_summary.json, with four decimals."""
    write_rows(folder / f"{name}_results.csv", list(evaluation.runs[0]), evaluation.runs)
    rounded = json.loads(json.dumps(summary(evaluation)), parse_float=lambda text: round(float(text), 4))
    write_text(folder / f"{name}_summary.json", json.dumps(rounded, indent=2) + "\n")


def fingerprint(data: RatedFeatures) -> str:
    """A hash of all features, prompts and scores."""
    digest = hashlib.sha256()
    for values in (data.image.numpy(), data.text.numpy(), data.scores):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update("\0".join(data.prompts).encode())
    return digest.hexdigest()


def joined(dataset: str, rows: Sequence[str], splits: Sequence[tuple[int, dict]], samples: int) -> Evaluation:
    """One evaluation over all splits, with the gaps of each row to the row before and of the last row to all others."""
    found = Evaluation("ablation", dataset, dataset)
    for seed, kept in splits:
        predicted = {row: np.array(values) for row, values in kept["predictions"].items()}
        found.add(seed, kept["prompts"], np.array(kept["human"]), predicted)
        found.controls |= set(kept["controls"])
    full = rows[-1]
    steps = [(row, before) for before, row in zip(rows[:-2], rows[1:-1], strict=True)]
    return found.summarise([*steps, *((full, row) for row in found.predictions if row != full)], samples)


if __name__ == "__main__":
    main()
