"""Find the layers at which the tiny LLaVA uses the image: layer-wise masking, attention shift, proposed layers.

python benchmarks/attention_probe/curves.py

Writes masking.csv, attention_shift.csv, hellinger.csv, proposal.json and probe.png to this file's folder.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from attention_refine.probes.probe import probe, write_probe  # noqa: E402
from attention_refine.vlm.loading import load_model  # noqa: E402
from benchmarks.attention_probe.asked import make_questions  # noqa: E402
from benchmarks.attention_probe.vision_memory import remember_pictures  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from tinyworld import weights_path  # noqa: E402

HERE = Path(__file__).parent


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="LLaVA folder; default: the tiny world's")
    parser.add_argument("--questions", type=int, default=700)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(arguments.model or str(weights_path("llava")), "cpu")
    remember_pictures(model)
    with tempfile.TemporaryDirectory() as folder:
        questions, _ = make_questions(Path(folder), arguments.questions, arguments.seed)
        found = probe(model, processor, "table", questions, Path(folder), batch_size=50, max_new_tokens=12)
    title = f"tiny LLaVA, {len(questions)} questions about held-out scenes"
    write_probe(found, arguments.output, "exact match", title)
    for row in found.masking:
        print({name: round(value, 1) for name, value in row.items()})
    print(found.refusal or "\n".join(found.proposal.reasons))


if __name__ == "__main__":
    main()
