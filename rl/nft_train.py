"""Fine-tune a LoRA by DiffusionNFT: `accelerate launch rl/nft_train.py [--config FILE] [--field value]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.command import run_trainer  # noqa: E402
from rl.config.forward_config import NFTConfig  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, run."""
    run_trainer(
        NFTConfig, "rl.updates.nft:NFTUpdate", argv, recipe="nft.yaml", prog="hyperalign-nft",
        description="DiffusionNFT on final pictures, with a LoRA and any reward, sampler and guidance.",
    )


if __name__ == "__main__":
    main()
