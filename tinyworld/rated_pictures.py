"""Write a folder of pictures, prompts and scores to try the evaluator on: `python -m tinyworld.rated_pictures FOLDER`.

Some prompts fit their picture, others are wrong in one or two things. The score is the share of the prompt's facts that
hold, measured by the oracle.
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
    """Write 000.png, 001.png, ... and metadata.csv (file_name, prompt, score), a `datasets` imagefolder.

    Every four pictures have the same prompt: the first shows it, the others are wrong in one or more things.

    Returns:
        the path of metadata.csv.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        if i % 4 == 0:
            asked = shown = sample_prompt(rng)
        else:
            # The prompt stays and the picture changes, so the prompt alone says nothing about the score.
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
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=120, help="number of pictures; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    arguments = parser.parse_args()
    path = write_rated_pictures(arguments.folder, arguments.count, arguments.seed)
    print(f"{arguments.count} pictures, prompts and scores in {path}")


if __name__ == "__main__":
    main()
