"""Fine-tune a LoRA by the reward's gradient: `accelerate launch rl/direct_train.py [--config FILE] [--field value]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.command import run_trainer  # noqa: E402
from rl.config.direct_config import DirectConfig  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, run."""
    run_trainer(
        DirectConfig, "rl.updates.direct:DirectUpdate", argv, recipe="direct.yaml", prog="hyperalign-direct",
        description="ReFL, DRaFT or AlignProp: the gradient of any differentiable reward, with a LoRA.",
    )


if __name__ == "__main__":
    main()
