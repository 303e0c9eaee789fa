"""Scoring races: HyperAlignReward against the ways people score with CLIP, with the same weights, in turns.

python -m benchmarks.scoring.run
python -m benchmarks.scoring.run --extra FOLDER   # of torchmetrics and imscore, pip install --no-deps --target FOLDER

Every side is a process with one thread; a condition is measured in all sides in turns, forwards then backwards, before
the next one. A row of results.csv is one turn; conditions that are there are not measured again.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.results_file import put_table, read_rows, write_rows
from benchmarks.scoring.backbones import SIZES, write_open_clip, write_transformers
from benchmarks.sides import Side
from tinyworld.scenes import sample_picture, sample_prompt

RESULTS = Path(__file__).with_name("results.csv")
LABELS = ("backbone", "mode", "inputs", "prompts", "batch")
COLUMNS = (*LABELS, "side", "repeat", "seconds", "cpu_seconds", "peak_mb", "rise_mb", "error")
SCORERS = {
    "HyperAlignReward": "HyperAlignScorer",
    "open_clip": "OpenClipScorer",
    "transformers": "TransformersScorer",
    "torchmetrics": "TorchmetricsScorer",
    "imscore": "ImscoreScorer",
}
PIXELS = {"ViT-B/16": 512, "tiny": 48}  # of the files


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sides", nargs="+", choices=SCORERS, default=list(SCORERS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--modes", nargs="+", default=["no_grad", "forward", "step"])
    parser.add_argument("--inputs", nargs="+", default=["files", "tensors"])
    parser.add_argument("--prompts", nargs="+", default=["repeated", "unique"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--extra", default="", help="folder of packages that are not this project's")
    parser.add_argument("--tables", action="store_true", help="only write README.md's tables anew")
    arguments = parser.parse_args()
    if not arguments.tables:
        with tempfile.TemporaryDirectory() as scratch:
            for backbone in arguments.backbones:
                race(backbone, arguments, Path(scratch))
    for backbone in SIZES:
        put_table(f"scoring/results.csv {backbone}", table(read_rows(RESULTS), backbone))


def race(backbone: str, arguments: argparse.Namespace, scratch: Path) -> None:
    """All conditions of one backbone."""
    name = backbone.replace("/", "-")
    pictures = scratch / f"{name}-pictures"
    write_pictures(pictures, max(arguments.batches), PIXELS[backbone])
    source = write_open_clip(backbone, scratch / f"{name}-open_clip")
    copy = write_transformers(source, scratch / f"{name}-transformers")
    settings = {"open_clip": str(source), "transformers": str(copy), "pictures": str(pictures)}
    sides = [
        Side({"side": side}, f"benchmarks.scoring.scorers:{SCORERS[side]}", settings, arguments.extra)
        for side in arguments.sides
    ]
    try:
        for condition in conditions(backbone, arguments):
            measure(condition, sides, arguments.repeats)
    finally:
        for side in sides:
            side.close()


def conditions(backbone: str, arguments: argparse.Namespace) -> list[dict]:
    """Small batches first; gradients are asked for of tensors, with one prompt for all."""
    found = []
    for batch, mode in itertools.product(sorted(arguments.batches), arguments.modes):
        for inputs, prompts in itertools.product(arguments.inputs, arguments.prompts):
            if mode == "no_grad" or (inputs, prompts) == ("tensors", "repeated"):
                found.append({"backbone": backbone, "mode": mode, "inputs": inputs, "prompts": prompts, "batch": batch})
    return found


def measure(condition: dict, sides: list[Side], repeats: int) -> None:
    """Rows of one condition, where a side has none yet."""
    asked = {key: condition[key] for key in ("mode", "inputs", "prompts", "batch")}
    asked["calls"] = (128 if condition["batch"] == 1 else 32) if condition["backbone"] == "tiny" else 1
    asked["calls"] = max(1, asked["calls"] // max(1, condition["batch"] // 8))
    labels = {key: str(value) for key, value in condition.items()}
    have = {row["side"] for row in read_rows(RESULTS) if labels.items() <= row.items()}
    turns = [side for side in sides if side.labels["side"] not in have and not side.error]
    rows: list[dict] = []
    failed: set[str] = set()
    for repeat in range(repeats):
        for side in turns if repeat % 2 else turns[::-1]:
            if side.labels["side"] not in failed:
                record = side.epoch(asked | {"warm_up": int(repeat == 0 or asked["calls"] > 1)})
                record |= {"error": record["refused"]} if "refused" in record else {}
                if "error" in record:
                    failed.add(side.labels["side"])
                rows.append(labels | side.labels | {"repeat": repeat} | record)
    write_rows(RESULTS, COLUMNS, [*read_rows(RESULTS), *rows])
    told = {s: [row["seconds"] for row in rows if row["side"] == s and "seconds" in row] for s in have | set(SCORERS)}
    print(*labels.values(), *(f"{s} {median(v):.4f}" for s, v in told.items() if v), sep="  ", flush=True)


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Scenes of the tiny world as PNG files of a size."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        picture = Image.fromarray((255 * sample_picture(sample_prompt(rng), rng)).round().astype(np.uint8))
        picture.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")


def table(rows: list[dict], backbone: str) -> str:
    """Markdown: ours in milliseconds a call, and how many times our throughput is theirs'."""
    others = [side for side in SCORERS if side != "HyperAlignReward"]
    heads = ["call", "batch", "pictures", "prompts", "ours, ms", "above open_clip, ms"]
    heads += [*(f"over {side}" for side in others), "peak, MB"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for labels in dict.fromkeys(tuple(row[key] for key in LABELS) for row in rows):
        if labels[0] != backbone:
            continue
        own = [row for row in rows if tuple(row[key] for key in LABELS) == labels]
        times = {side: _by_repeat(own, side, "seconds") for side in SCORERS}
        if not times["HyperAlignReward"]:
            continue
        ratios = [_ratio(times[other], times["HyperAlignReward"]) for other in others]
        peaks = [_by_repeat(own, side, "peak_mb") for side in ("HyperAlignReward", "open_clip")]
        peak = " / ".join(f"{median(p.values()):.0f}" if p else "-" for p in peaks)
        ours = median(times["HyperAlignReward"].values()) * 1000
        bare = times["open_clip"]
        both = [seconds - bare[repeat] for repeat, seconds in times["HyperAlignReward"].items() if repeat in bare]
        above = f"{1000 * median(both):+.2f}" if both else "-"
        _, mode, inputs, prompts, batch = labels
        told = {"no_grad": "no gradient", "forward": "forward, recorded", "step": "with gradient"}[mode]
        cells = [told, batch, inputs, prompts, f"{ours:.4g}", above, *ratios, peak]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_repeat(rows: list[dict], side: str, column: str) -> dict[str, float]:
    return {row["repeat"]: float(row[column]) for row in rows if row["side"] == side and not row["error"]}


def _ratio(theirs: dict[str, float], ours: dict[str, float]) -> str:
    """Median over the repeats of their time over ours in the same turn."""
    both = [theirs[repeat] / ours[repeat] for repeat in ours if repeat in theirs]
    return f"{median(both):.2f}" if both else "-"


if __name__ == "__main__":
    main()
