"""Speed of scoring: HyperAlignReward against the usual ways to score with CLIP, with the same weights, in turns.

python -m benchmarks.scoring.run
python -m benchmarks.scoring.run --extra FOLDER   # of torchmetrics and imscore, pip install --no-deps --target FOLDER

Every side is a process with one thread. Each repeat starts new processes, because the memory that an allocator happens
to keep in one process changes a row by 9 %. Within a repeat all sides run one condition, in random order, before the
next condition. A row of results.csv is one turn; existing rows are not measured again.
"""

import argparse
import itertools
import random
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.results_file import put_table, read_rows, write_rows
from benchmarks.scoring.backbones import SIZES, write_open_clip, write_transformers
from benchmarks.sides import Side
from reward.cli.flags import ArgumentParser
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
PIXELS = {"ViT-B/16": 512, "tiny": 48}  # side of the picture files


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sides", nargs="+", choices=SCORERS, default=list(SCORERS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--modes", nargs="+", default=["no_grad", "forward", "step"])
    parser.add_argument("--inputs", nargs="+", default=["files", "tensors"])
    parser.add_argument("--prompts", nargs="+", default=["repeated", "unique"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--extra", default="", help="folder with torchmetrics and imscore")
    parser.add_argument("--tables", action="store_true", help="only write README.md's tables again")
    arguments = parser.parse_args()
    if not arguments.tables:
        with tempfile.TemporaryDirectory() as scratch:
            for backbone in arguments.backbones:
                race(backbone, arguments, Path(scratch))
    for backbone in SIZES:
        put_table(f"scoring/results.csv {backbone}", table(read_rows(RESULTS), backbone))


def race(backbone: str, arguments: argparse.Namespace, scratch: Path) -> None:
    """Run all conditions of one backbone, each repeat in new processes."""
    name = backbone.replace("/", "-")
    pictures = scratch / f"{name}-pictures"
    write_pictures(pictures, max(arguments.batches), PIXELS[backbone])
    source = write_open_clip(backbone, scratch / f"{name}-open_clip")
    copy = write_transformers(source, scratch / f"{name}-transformers")
    settings = {"open_clip": str(source), "transformers": str(copy), "pictures": str(pictures)}
    for repeat in range(arguments.repeats):
        rng = random.Random(repeat)
        due = conditions(backbone, arguments)
        # Small batches first, because a process rarely returns memory and later peaks would be too high.
        due.sort(key=lambda condition: (condition["batch"], rng.random()))
        due = [(condition, names) for condition in due if (names := missing(condition, repeat, arguments.sides))]
        if not due:
            continue
        wanted = {side for _, names in due for side in names}
        sides = {
            side: Side({"side": side}, f"benchmarks.scoring.scorers:{SCORERS[side]}", settings, arguments.extra)
            for side in arguments.sides if side in wanted
        }  # fmt: skip
        try:
            for place, (condition, names) in enumerate(due):
                measure(condition, repeat, [sides[side] for side in rng.sample(names, len(names))], not place)
        finally:
            for side in sides.values():
                side.close()


def missing(condition: dict, repeat: int, sides: list[str]) -> list[str]:
    """The sides without a row of this repeat, except those that cannot run the condition."""
    labels = {key: str(value) for key, value in condition.items()}
    rows = [row for row in read_rows(RESULTS) if labels.items() <= row.items()]
    have = {row["side"] for row in rows if row["error"] or row["repeat"] == str(repeat)}
    return [side for side in sides if side not in have]


def conditions(backbone: str, arguments: argparse.Namespace) -> list[dict]:
    """All conditions, small batches first. Gradients are only measured for tensors with one prompt for all."""
    found = []
    for batch, mode in itertools.product(sorted(arguments.batches), arguments.modes):
        for inputs, prompts in itertools.product(arguments.inputs, arguments.prompts):
            if mode == "no_grad" or (inputs, prompts) == ("tensors", "repeated"):
                found.append({"backbone": backbone, "mode": mode, "inputs": inputs, "prompts": prompts, "batch": batch})
    return found


def measure(condition: dict, repeat: int, sides: list[Side], first: bool) -> None:
    """Measure each side in the given order and add its row."""
    batch, tiny = condition["batch"], condition["backbone"] == "tiny"
    asked = {key: condition[key] for key in ("mode", "inputs", "prompts", "batch")}
    asked["calls"] = max(1, {True: (128, 32), False: (3, 1)}[tiny][batch > 1] // max(1, batch // 8))
    asked["warm_up"] = int(first or tiny or batch == 1)
    rows = []
    for side in sides:
        record = side.epoch(asked)
        record |= {"error": record["refused"]} if "refused" in record else {}
        rows.append(condition | side.labels | {"repeat": repeat} | record)
    write_rows(RESULTS, COLUMNS, [*read_rows(RESULTS), *rows])
    told = (f"{row['side']} {row['seconds']:.4f}" for row in rows if "seconds" in row)
    print(f"repeat {repeat}", *condition.values(), *told, sep="  ", flush=True)


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Write scenes of the tiny world as PNG files of the given size."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        picture = Image.fromarray((255 * sample_picture(sample_prompt(rng), rng)).round().astype(np.uint8))
        picture.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")


def table(rows: list[dict], backbone: str) -> str:
    """Markdown: our milliseconds per call, and our throughput divided by each other side's."""
    others = [side for side in SCORERS if side != "HyperAlignReward"]
    heads = ["call", "batch", "pictures", "prompts", "ours, ms", "above open_clip, ms"]
    heads += [*(f"over {side}" for side in others), "peak, MB"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    modes = ("no_grad", "forward", "step")
    found = {tuple(row[key] for key in LABELS) for row in rows}
    for labels in sorted(found, key=lambda each: (int(each[4]), modes.index(each[1]), *each[2:4])):
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
    """Median over the repeats of their time divided by ours in the same turn."""
    both = [theirs[repeat] / ours[repeat] for repeat in ours if repeat in theirs]
    return f"{median(both):.2f}" if both else "-"


if __name__ == "__main__":
    main()
