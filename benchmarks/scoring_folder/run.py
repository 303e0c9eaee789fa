"""`hyperalign score` on a folder of 1,000 pictures against a simple open_clip loop over the same files, in turns.

python -m benchmarks.scoring_folder.run

Both read the same PNG or JPEG files and prompts, encode them with the same tiny towers in batches of 32, and write a
CSV of 1,000 scores. The loop uses PIL, open_clip's own transform and the cosine. Ours also checks its input, decodes in
background threads, applies the head, and saves finished parts to disk. Every process has one thread for torch. The time
to start Python and to load the model is not counted.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.results_file import write_rows
from benchmarks.sides import Side, take_turns
from reward.cli.flags import ArgumentParser
from tinyworld import weights_path
from tinyworld.scenes import sample_picture, sample_prompt

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("files", "side", "repeat", "seconds", "cpu_seconds", "peak_mb", "error")
BATCH_SIZE = 32
KINDS = {"png 48": ("png", 48), "jpeg 512": ("jpg", 512)}


class HyperAlignSide:
    """`hyperalign score FOLDER --output scores.csv`, after the model is loaded."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from reward import HyperAlignReward

        self.reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
        self.folder, self.output = Path(settings["folder"]), Path(settings["output"])

    def run_epoch(self) -> dict[str, float]:
        """Score all pictures; returns the seconds."""
        from reward.scoring.inputs import find_rows
        from reward.scoring.score import score_to_file

        started = time.perf_counter()
        rows = find_rows([self.folder])
        count, _ = score_to_file(self.reward, rows, self.output, batch_size=BATCH_SIZE, progress=False)
        seconds = time.perf_counter() - started
        _check(self.output, count.scored)
        return {"seconds": seconds}


class OpenClipSide:
    """A loop over open_clip: read, transform, encode, cosine, write."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import open_clip

        name = f"local-dir:{weights_path('open-clip')}"
        self.model, _, self.transform = open_clip.create_model_and_transforms(name)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.folder, self.output = Path(settings["folder"]), Path(settings["output"])

    @torch.no_grad()
    def run_epoch(self) -> dict[str, float]:
        """Score all pictures; returns the seconds."""
        started = time.perf_counter()
        paths = sorted(path for path in self.folder.iterdir() if path.suffix in (".png", ".jpg"))
        with self.output.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "prompt", "score"])
            for start in range(0, len(paths), BATCH_SIZE):
                batch = paths[start : start + BATCH_SIZE]
                prompts = [path.with_suffix(".txt").read_text().strip() for path in batch]
                images = torch.stack([self.transform(Image.open(path).convert("RGB")) for path in batch])
                image = self.model.encode_image(images, normalize=True)
                text = self.model.encode_text(self.tokenizer(prompts), normalize=True)
                writer.writerows(zip(batch, prompts, (image * text).sum(-1).tolist(), strict=True))
        seconds = time.perf_counter() - started
        _check(self.output, len(paths))
        return {"seconds": seconds}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV of every pass")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, (suffix, size) in KINDS.items():
            folder = Path(scratch) / suffix
            write_pictures(folder, arguments.pictures, suffix, size)
            sides = [
                Side({"files": kind, "side": name}, f"benchmarks.scoring_folder.run:{target}",
                     {"folder": str(folder), "output": str(Path(scratch) / f"{name}-{suffix}.csv")})
                for name, target in (("hyperalign score", "HyperAlignSide"), ("open_clip loop", "OpenClipSide"))
            ]  # fmt: skip
            rows += take_turns(sides, arguments.repeats, warm_up=1)
            write_rows(arguments.output, COLUMNS, rows)
    print(table(rows))


def write_pictures(folder: Path, count: int, suffix: str, size: int) -> None:
    """Write pictures, each with its prompt in a .txt file."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        prompt = sample_prompt(rng)
        picture = Image.fromarray((255 * sample_picture(prompt, rng)).round().astype(np.uint8))
        picture.resize((size, size)).save(folder / f"{i:04d}.{suffix}")
        (folder / f"{i:04d}.txt").write_text(f"{prompt.text}\n")


def table(rows: list[dict]) -> str:
    """Markdown: time of both sides and the ratio of their throughputs, by the median pass."""
    lines = [
        "| 1,000 files | `hyperalign score`, s | open_clip loop, s | throughput, ratio | CPU time, ratio | peak "
        "memory, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        ours, loop = (
            [row for row in rows if row["files"] == kind and row["side"] == side and not row.get("error")]
            for side in ("hyperalign score", "open_clip loop")
        )
        (a, b), (cpu_a, cpu_b), (peak_a, peak_b) = (
            [median(float(row[name]) for row in side) for side in (ours, loop)]
            for name in ("seconds", "cpu_seconds", "peak_mb")
        )
        lines.append(
            f"| {kind} px | {a:.2f} | {b:.2f} | {b / a:.2f} | {cpu_a / cpu_b:.2f} | {peak_a:.0f} / {peak_b:.0f} |"
        )
    return "\n".join(lines)


def _check(output: Path, scored: int) -> None:
    with output.open(newline="") as file:
        written = sum(1 for _ in csv.DictReader(file))
    if not scored or written != scored:
        raise RuntimeError(f"{output.name}: expected {scored} scores, found {written}")


if __name__ == "__main__":
    main()
