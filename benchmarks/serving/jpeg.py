"""What JPEG costs: scores of the same scenes as PNG and as JPEG; `python benchmarks/serving/jpeg.py`.

Scenes of the tiny world, half with their own prompts and half with another scene's, scored from their files by the
built-in reward. PNG must give the pictures' own scores exactly.
"""

import argparse
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.results_file import write_rows  # noqa: E402
from reward import HyperAlignReward  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.models.llava_batches import sample_scenes  # noqa: E402
from tinyworld.questions import caption  # noqa: E402


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=512)
    count = parser.parse_args().scenes
    scenes = sample_scenes(np.random.default_rng(0), count, free=0)
    truths = [caption(objects) or "a ring" for objects in scenes.objects]
    prompts = [truths[index] if index % 2 else truths[index - 8] for index in range(count)]
    pictures = [Image.fromarray(array) for array in (scenes.pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()]
    reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))

    def scores(kind: str, **options) -> torch.Tensor:
        files = []
        for picture in pictures:
            file = io.BytesIO()
            picture.save(file, kind, **options)
            files.append(Image.open(file))
        return reward(files, prompts)

    own = reward(pictures, prompts)
    rows = []
    for name, kind, options in (
        ("PNG", "PNG", {}), ("WebP, lossless", "WEBP", {"lossless": True}), ("JPEG 95", "JPEG", {"quality": 95}),
        ("JPEG 75", "JPEG", {"quality": 75}),
    ):  # fmt: skip
        change = (scores(kind, **options) - own).abs()
        rows.append({
            "file": name, "mean_change": f"{change.mean():.5f}", "largest_change": f"{change.max():.5f}",
            "score_std": f"{own.std():.5f}",
        })  # fmt: skip
        print(rows[-1])
    write_rows(Path(__file__).with_name("jpeg.csv"), list(rows[0]), rows)


if __name__ == "__main__":
    main()
