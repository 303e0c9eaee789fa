"""Fine-tune a LoRA by DDPO: `accelerate launch rl/ddpo_train.py [--config FILE] [--field value]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.command import run_trainer  # noqa: E402
from rl.config.ddpo_config import DDPOConfig  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, run."""
    run_trainer(
        DDPOConfig, "rl.updates.ddpo:DDPOUpdate", argv, recipe="ddpo.yaml", prog="hyperalign-ddpo",
        description="DDPO: a policy gradient over denoising steps, with a LoRA and any reward.",
    )


if __name__ == "__main__":
    main()
