"""Fine-tune a LoRA by the reward's gradient: `accelerate launch rl/direct_train.py [--config FILE] [--field value]`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.command import trainer_main  # noqa: E402

main = trainer_main("direct")

if __name__ == "__main__":
    main()
