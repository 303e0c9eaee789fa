"""What a lower precision of the towers gives and costs, on the CPU at hand: rows of results.csv.

python benchmarks/precision/run.py
python benchmarks/precision/run.py --agreement agiqa3k --encoder runs/agiqa3k/encoder --data AGIQA-3K

Speed: a ViT-B/16 of random weights encodes 16 pictures, the precisions in turns, the median of the rounds; ratios are
to float32 of the same round. Agreement: Spearman's correlation of the scores with those of float32, on rated pictures
of the tiny world and, with --encoder, on AGIQA-3K with the towers of `benchmarks/agiqa3k`.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[2]
# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(ROOT))

from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from benchmarks.scoring.backbones import SIZES, write_open_clip  # noqa: E402
from reward import HyperAlignReward  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.datasets import load_dataset  # noqa: E402
from reward.scoring.precision import set_precision  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("measure", "what", "cpu", "threads", "dtype", "seconds", "ratio", "spearman", "largest_difference")
DTYPES = ("float32", "bfloat16", "int8")


def main() -> None:
    """Measure, print, and put the rows in the place of those of the same measure and CPU."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agreement", choices=("tiny", "agiqa3k"), help="that alone, no speed")
    parser.add_argument("--encoder", type=Path, help="folder made by benchmarks/agiqa3k/build_encoder.py")
    parser.add_argument("--data", type=Path, help="AGIQA-3K")
    parser.add_argument("--count", type=int, default=1000, help="pictures of AGIQA-3K, evenly from its table (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="of the precisions in turns (5)")
    parser.add_argument("--backbone", choices=("ViT-B/16", "tiny"), default="ViT-B/16", help="whose speed is measured")
    parser.add_argument("--pictures", type=int, default=16, help="at a time (16)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.agreement == "agiqa3k":
        dataset = load_dataset("agiqa-3k", arguments.data, skip_bad=True)
        chosen = np.linspace(0, len(dataset) - 1, min(arguments.count, len(dataset))).astype(int)
        rows = agreement("AGIQA-3K", lambda: _bare(arguments.encoder), dataset.subset(chosen))
    elif arguments.agreement == "tiny":
        rows = tiny_world()
    else:
        rows = speed(arguments.backbone, arguments.rounds, arguments.pictures) + tiny_world()
    done = {(row["measure"], row["what"], row["cpu"]) for row in rows}
    kept = [row for row in read_rows(RESULTS) if (row["measure"], row["what"], row["cpu"]) not in done]
    write_rows(RESULTS, COLUMNS, [*kept, *rows])
    for row in rows:
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


def speed(name: str, rounds: int, count: int) -> list[dict]:
    """Seconds that the image tower of a backbone takes for `count` pictures."""
    pictures = torch.rand(count, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        towers = write_open_clip(name, Path(folder) / "towers")
        rewards = {dtype: _bare(towers) for dtype in DTYPES}
    for dtype, reward in rewards.items():
        set_precision(reward, dtype)
    taken: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    with torch.no_grad():
        for turn in range(rounds + 1):
            for dtype, reward in rewards.items():
                started = time.perf_counter()
                reward.backbone.encode_images(pictures)
                if turn:  # the first warms up
                    taken[dtype].append(time.perf_counter() - started)
    ratios = {d: statistics.median(a / b for a, b in zip(taken["float32"], taken[d], strict=True)) for d in DTYPES}
    return [
        _row(
            "speed", f"{name}, {count} pictures", dtype, seconds=statistics.median(taken[dtype]), ratio=ratios[dtype]
        )
        for dtype in DTYPES
    ]  # fmt: skip


def tiny_world(count: int = 240) -> list[dict]:
    """Agreement of the shipped reward on pictures of its own world."""
    from tinyworld import weights_path
    from tinyworld.rated_pictures import write_rated_pictures

    with tempfile.TemporaryDirectory() as folder:
        write_rated_pictures(Path(folder), count=count)
        dataset = load_dataset("table", Path(folder))
        return agreement("tiny world", lambda: HyperAlignReward.from_pretrained(weights_path("hyperalign")), dataset)


def agreement(what: str, load, dataset) -> list[dict]:
    """Spearman's correlation of each precision's scores with float32's."""
    scores: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        reward = load()
        set_precision(reward, dtype)
        found = []
        with torch.no_grad():
            for start in range(0, len(dataset), 32):
                images = list(dataset.images[start : start + 32])
                found.append(reward(images, list(dataset.prompts[start : start + 32])).float().numpy())
        scores[dtype] = np.concatenate(found)
    plain = scores["float32"]
    return [
        _row(
            "agreement", f"{what}, {len(dataset)} pictures", dtype,
            spearman=float(spearmanr(scores[dtype], plain)[0]),
            largest_difference=float(np.abs(scores[dtype] - plain).max()),
        )
        for dtype in DTYPES[1:]
    ]  # fmt: skip


def _bare(folder: Path) -> HyperAlignReward:
    return HyperAlignReward.from_backbone(f"local-dir:{folder}")


def _row(measure: str, what: str, dtype: str, **values) -> dict:
    about = {"measure": measure, "what": what, "cpu": _cpu(), "threads": torch.get_num_threads(), "dtype": dtype}
    return about | values


def _cpu() -> str:
    """Name and the units that matter here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    about = {line.partition("\t")[0]: line.partition(": ")[2] for line in lines}
    units = [u for u in ("avx2", "avx512_vnni", "avx512_bf16", "amx_tile") if u in about.get("flags", "").split()]
    return f"{about.get('model name', platform.processor())} ({' '.join(units)})"


if __name__ == "__main__":
    main()
