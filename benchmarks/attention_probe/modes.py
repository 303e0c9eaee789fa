"""Does contrastive attention improve the answers? The plain tiny LLaVA against three modes over rho and lambda, paired.

python benchmarks/attention_probe/modes.py

Held-out scenes, clean and with pixel noise (so that there are mistakes to fix), with the layers that curves.py proposed
and with the preset of the model's depth. Rows of modes.csv of the same pictures and layers are replaced.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from attention_refine.contrastive.config import MODES, ContrastiveAttentionConfig  # noqa: E402
from attention_refine.vlm.decoder import find_decoder  # noqa: E402
from attention_refine.vlm.loading import load_model  # noqa: E402
from attention_refine.vqa.answering import Answerer, batches  # noqa: E402
from attention_refine.vqa.metrics import exact_match  # noqa: E402
from attention_refine.vqa.rows import VQARow  # noqa: E402
from attention_refine.vqa.table import score_table  # noqa: E402
from benchmarks.attention_probe.asked import make_questions  # noqa: E402
from benchmarks.attention_probe.vision_memory import remember_pictures  # noqa: E402
from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from tinyworld import weights_path  # noqa: E402

HERE = Path(__file__).parent
RHO, LAM = (0.2, 0.5, 0.8), (0.1, 0.0)
COLUMNS = (
    "pictures", "noise", "layers", "post", "candidates", "review", "mode", "rho", "lam", "questions", "score", "low",
    "high", "gain", "gain_low", "gain_high", "mended", "broken",
)  # fmt: skip


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="LLaVA folder; default: the tiny world's")
    parser.add_argument("--questions", type=int, default=700)
    parser.add_argument("--seed", type=int, default=2, help="must differ from the seed of curves.py")
    parser.add_argument("--noise", type=float, default=0.3, help="standard deviation of the pixel noise")
    parser.add_argument("--layers", nargs="+", choices=("proposed", "preset"), default=["proposed", "preset"])
    parser.add_argument("--output", type=Path, default=HERE, help="folder with proposal.json, and for modes.csv")
    parser.add_argument("--pictures", nargs="+", choices=("clean", "noisy"), default=["clean", "noisy"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(arguments.model or str(weights_path("llava")), "cpu")
    remember_pictures(model)
    results = arguments.output / "modes.csv"
    for pictures in arguments.pictures:
        noise = arguments.noise if pictures == "noisy" else 0.0
        with tempfile.TemporaryDirectory() as folder:
            questions, _ = make_questions(Path(folder), arguments.questions, arguments.seed, noise)
            answerer = Answerer(model, processor, max_new_tokens=12)
            # prepared once, because every row answers the same batches
            inputs = [answerer.inputs(batch) for batch in batches(questions, 50)]
        for layers in arguments.layers:
            common = {"pictures": pictures, "noise": noise, "layers": layers}
            config = layer_config(layers, model, arguments.output)
            rows = [common | row for row in measure(answerer, inputs, questions, config)]
            kept = [row for row in read_rows(results) if (row["pictures"], row["layers"]) != (pictures, layers)]
            write_rows(results, COLUMNS, [*kept, *rows])
            for row in rows:
                print({name: row[name] for name in COLUMNS if name in row}, flush=True)


def layer_config(layers: str, model: Any, folder: Path) -> ContrastiveAttentionConfig:
    """A config with the layers that curves.py proposed (in `folder`), or with the preset of the model's depth."""
    depth = len(find_decoder(model).layers)
    if layers == "preset":
        return ContrastiveAttentionConfig.for_depth(depth)
    proposal = json.loads((folder / "proposal.json").read_text(encoding="utf-8"))
    del proposal["reasons"]
    return ContrastiveAttentionConfig.for_depth(depth, **proposal)


def measure(answerer: Answerer, inputs: list, questions: list, config: ContrastiveAttentionConfig) -> Iterator[dict]:
    """The row of the plain model, then one per mode, rho and lambda."""
    rows = [VQARow("base")]
    for mode in MODES:
        for rho in RHO:
            for lam in LAM:
                changed = config.to_dict() | {"mode": mode, "rho": rho, "lam": lam}
                rows.append(VQARow(f"{mode} {rho} {lam}", ContrastiveAttentionConfig.from_dict(changed)))
    scores = {}
    for row in rows:
        with row.around(answerer.model):
            answers = [text for batch in inputs for text in answerer.answer_inputs(batch)]
        scores[row.name] = [exact_match(text, q.answers) for text, q in zip(answers, questions, strict=True)]
    base = np.array(scores["base"])
    for row, line in zip(rows, score_table(scores, [str(q.image) for q in questions]), strict=True):
        right = np.array(scores[row.name])
        changes = {"mended": int(((right == 1) & (base == 0)).sum()), "broken": int(((right == 0) & (base == 1)).sum())}
        yield line | ({"mode": "base"} if row.config is None else _described(row.config) | changes)


def _described(config: ContrastiveAttentionConfig) -> dict[str, Any]:
    candidates = " ".join(map(str, config.candidate_layers))
    layers = {"post": config.post_layer, "candidates": candidates, "review": config.review_layer}
    return layers | {"mode": config.mode, "rho": f"{config.rho:g}", "lam": f"{config.lam:g}"}


if __name__ == "__main__":
    main()
