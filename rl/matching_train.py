"""Fine-tune a LoRA by weighted matching: `accelerate launch rl/matching_train.py [--config FILE] [--field value]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.command import run_trainer  # noqa: E402
from rl.config.forward_config import MatchingConfig  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, build, run."""
    run_trainer(
        MatchingConfig, "rl.updates.matching:MatchingUpdate", argv, recipe="matching.yaml", prog="hyperalign-matching",
        description="Advantage-weighted matching on final pictures, with a LoRA, any reward and sampler.",
    )


if __name__ == "__main__":
    main()
