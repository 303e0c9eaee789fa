"""Fine-tune a Stable Diffusion LoRA by DDPO: `accelerate launch rl/ddpo_train.py [--config FILE] [--field value]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.config.ddpo_config import DDPOConfig  # noqa: E402
from rl.config.loading import load_config  # noqa: E402
from rl.packaged import packaged_recipe, resolve_packaged  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, run."""
    try:
        config = load_config(
            DDPOConfig,
            sys.argv[1:] if argv is None else argv,
            default_recipe=packaged_recipe("ddpo.yaml"),
            prog="hyperalign-ddpo",
            description="DDPO fine-tuning of Stable Diffusion with a LoRA and any reward.",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"hyperalign-ddpo: {error}")

    from rl.trainer import Trainer
    from rl.updates.ddpo import DDPOUpdate

    Trainer.from_config(config, DDPOUpdate, resolve=resolve_packaged).train()


if __name__ == "__main__":
    main()
