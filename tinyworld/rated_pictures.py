"""A folder of pictures with prompts and scores to try the evaluator on: `python -m tinyworld.rated_pictures FOLDER`.

The prompts of some pictures are true of them, of others they are wrong in one thing or two; the score is the share of
the prompt's facts that hold, by the oracle.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from reward.cli.flags import ArgumentParser
from tinyworld.data import altered
from tinyworld.oracle import share_of_facts
from tinyworld.scenes import sample_picture, sample_prompt


def write_rated_pictures(folder: Path, count: int = 120, seed: int = 0) -> Path:
    """Write 000.png ... and metadata.csv (file_name, prompt, score), a `datasets` imagefolder; returns the latter.

    Four pictures have the same prompt: one that shows it, the others wrong in one thing or more.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        if i % 4 == 0:
            asked = shown = sample_prompt(rng)
        else:
            # of the same kind of words, so that the prompt alone does not tell the score
            shown = altered(asked if i % 4 < 3 else shown, rng, seen_only=False)
        name = f"{i:03d}.png"
        picture = (255 * sample_picture(shown, rng)).round().astype(np.uint8)
        Image.fromarray(picture).save(folder / name)
        rows.append((name, asked.text, f"{share_of_facts(picture / 255, asked):.3f}"))
    path = folder / "metadata.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("file_name", "prompt", "score"), *rows])
    return path


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    path = write_rated_pictures(arguments.folder, arguments.count, arguments.seed)
    print(f"{arguments.count} pictures, prompts and scores in {path}")


if __name__ == "__main__":
    main()
