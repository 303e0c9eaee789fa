"""Export a run's LoRA: `hyperalign-export-lora RUN --format diffusers|peft|kohya|fused --license ID --output DIR`.

diffusers  pytorch_lora_weights.safetensors, rank and alpha in its header      pipeline.load_lora_weights
peft       adapter_model.safetensors and adapter_config.json                   PeftModel.from_pretrained
kohya      NAME.safetensors, an alpha beside every layer                       ComfyUI, A1111, diffusers
fused      the whole pipeline, the LoRA merged into it                         DiffusionPipeline.from_pretrained

Each with a model card, README.md. Files are safetensors and JSON; the folder appears whole or not at all.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reward.cli.flags import ArgumentParser  # noqa: E402
from rl.lora.export import FORMATS, export_lora  # noqa: E402
from rl.packaged import resolve_packaged  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, export, push."""
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
        prog="hyperalign-export-lora", description="Export the LoRA of a run in the format that your tool loads.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or one of its checkpoint folders")
    parser.add_argument("--format", required=True, choices=FORMATS, help="fused: the whole pipeline, LoRA merged in")
    parser.add_argument(
        "--license", required=True, metavar="ID",
        help="licence of the export, as the hub names it, e.g. creativeml-openrail-m; the base model's terms bind you",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument("--base_model", metavar="ID", help="hub id of the base model, if the run names a local folder")
    parser.add_argument("--push_to_hub", metavar="REPO", help="upload to this hub repository, OWNER/NAME, as well")
    return parser


if __name__ == "__main__":
    main()
