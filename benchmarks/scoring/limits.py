"""How close scoring is to the machine's limit, and the cost of head and gradient. Measured in one process, in turns.

python -m benchmarks.scoring.limits
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import torch
from tqdm.auto import trange

from benchmarks.results_file import put_table, write_rows
from benchmarks.scoring.backbones import GFLOP, SIZES, write_open_clip
from reward import HyperAlignReward
from reward.cli.flags import ArgumentParser

RESULTS = Path(__file__).with_name("limits.csv")
COLUMNS = ("backbone", "batch", "repeat", "gemm_gflops", "tower_gflops", "tower", "head", "cosine", "forward", "step")
_GEMM = 2048


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--backbones", nargs="+", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for backbone in arguments.backbones:
            size = SIZES[backbone]
            source = write_open_clip(backbone, Path(scratch) / backbone.replace("/", "-"))
            reward = HyperAlignReward.from_backbone(f"local-dir:{source}")
            for batch in arguments.batches:
                for repeat in trange(-1, arguments.repeats, desc=f"{backbone}, {batch}"):
                    found = measure(reward, batch, size, GFLOP.get(backbone))
                    if repeat >= 0:
                        rows.append({"backbone": backbone, "batch": batch, "repeat": repeat} | found)
                write_rows(RESULTS, COLUMNS, [short(row) for row in rows])
    put_table("scoring/limits.csv", table(rows))


def measure(reward: HyperAlignReward, batch: int, size: int, gflop: float | None) -> dict:
    """Measure the seconds of each part, and GFLOP/s of a matrix product and of the image tower."""
    pictures = torch.rand(batch, 3, size, size)
    prompt = "a red ring left of a blue square"
    one, two = (torch.rand(_GEMM, _GEMM) for _ in range(2))
    found = {"gemm_gflops": 2 * _GEMM**3 / seconds(lambda: one @ two) / 1e9}
    with torch.no_grad():
        found["tower"] = seconds(lambda: reward.backbone.encode_images(pictures))
        image = reward.backbone.encode_images(pictures)
        text = reward.backbone.encode_prompts([prompt]).expand(batch, -1)
        found["head"] = seconds(lambda: reward.head(image, text), calls=20)
        found["cosine"] = seconds(lambda: torch.cosine_similarity(image, text, dim=-1), calls=20)
    if gflop:
        found["tower_gflops"] = batch * gflop / found["tower"]
    wanted = pictures.clone().requires_grad_()
    found["forward"] = seconds(lambda: reward(wanted, prompt))

    def step() -> None:
        wanted.grad = None
        reward(wanted, prompt).sum().backward()

    found["step"] = seconds(step)
    return found


def seconds(call, calls: int = 1) -> float:
    """Mean seconds of a call."""
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def short(row: dict) -> dict:
    """Round to six significant digits, because a head takes tenths of milliseconds."""
    return {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}


def table(rows: list[dict]) -> str:
    """Markdown with medians of the ratios within a repeat."""
    lines = [
        "| backbone | batch | image tower, ms | of the GEMM peak | head, ms | head over tower | head over bare cosine "
        "| step over recorded forward |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for backbone, batch in dict.fromkeys((row["backbone"], row["batch"]) for row in rows):
        own = [row for row in rows if (row["backbone"], row["batch"]) == (backbone, batch)]
        pairs = (("head", "tower"), ("head", "cosine"), ("step", "forward"))
        ratios = [median(row[a] / row[b] for row in own) for a, b in pairs]
        peak = "-"
        if "tower_gflops" in own[0]:
            speed, limit = (median(row[key] for row in own) for key in ("tower_gflops", "gemm_gflops"))
            peak = f"{speed / limit:.0%} ({speed:.0f} of {limit:.0f} GFLOP/s)"
        tower, head = (1000 * median(row[key] for row in own) for key in ("tower", "head"))
        lines.append(
            f"| {backbone} | {batch} | {tower:.4g} | {peak} | {head:.2f} | {ratios[0]:.2%} | {ratios[1]:.1f} "
            f"| {ratios[2]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
