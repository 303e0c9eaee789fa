"""Fine-tune a LoRA by the reward's gradient: `accelerate launch rl/direct_train.py [--config FILE] [--field value]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.config.direct_config import DirectConfig  # noqa: E402
from rl.config.loading import load_config  # noqa: E402
from rl.packaged import packaged_recipe, resolve_packaged  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, run."""
    try:
        config = load_config(
            DirectConfig,
            sys.argv[1:] if argv is None else argv,
            default_recipe=packaged_recipe("direct.yaml"),
            prog="hyperalign-direct",
            description="Direct fine-tuning of Stable Diffusion: ReFL, DRaFT or AlignProp with a LoRA and any "
            "differentiable reward.",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"hyperalign-direct: {error}")

    from rl.trainer import Trainer
    from rl.updates.direct import DirectUpdate

    Trainer.from_config(config, DirectUpdate, resolve=resolve_packaged).train()


if __name__ == "__main__":
    main()
