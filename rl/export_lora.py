"""Export a run's LoRA: `hyperalign-export-lora RUN --format diffusers|peft|kohya|fused --license ID --output DIR`.

format     files                                                               loaded by
diffusers  pytorch_lora_weights.safetensors, rank and alpha in its header      pipeline.load_lora_weights
peft       adapter_model.safetensors and adapter_config.json                   PeftModel.from_pretrained
kohya      NAME.safetensors, with an alpha for every layer                     ComfyUI, A1111, diffusers
fused      the full pipeline with the LoRA merged into it                      DiffusionPipeline.from_pretrained

Every export has a model card, README.md. Weights are safetensors, never pickles. The folder is written atomically.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Python puts a script's own folder on the path. The packages are in the folder above it.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reward.cli.flags import ArgumentParser  # noqa: E402
from rl.lora.export import FORMATS, export_lora  # noqa: E402
from rl.packaged import resolve_packaged  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, export, push if asked to."""
    arguments = _parser().parse_args(argv)
    try:
        folder = export_lora(
            arguments.run, arguments.format, arguments.output, license=arguments.license,
            base_model=arguments.base_model, push_to_hub=arguments.push_to_hub, resolve=resolve_packaged,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"hyperalign-export-lora: {error}")
    print(f"Wrote {folder}" + (f" and pushed it to {arguments.push_to_hub}." if arguments.push_to_hub else "."))


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="hyperalign-export-lora", description="Export the LoRA of a run in a format that other tools load.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or one of its checkpoint folders")
    parser.add_argument(
        "--format", required=True, choices=FORMATS, help="fused: the full pipeline with the LoRA merged in"
    )
    parser.add_argument(
        "--license", required=True, metavar="ID",
        help="licence of the export as a hub identifier, e.g. creativeml-openrail-m; the base model's terms apply too",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument(
        "--base_model", metavar="ID", help="hub id of the base model, if the run's config names a local folder"
    )
    parser.add_argument("--push_to_hub", metavar="REPO", help="also upload to this hub repository, OWNER/NAME")
    return parser


if __name__ == "__main__":
    main()
