"""Fine-tune a Stable Diffusion LoRA by DDPO: `accelerate launch rl/ddpo_train.py [--config FILE] [--field value]`."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, not the one that holds the packages.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rl.config import DDPOConfig  # noqa: E402
from rl.config_loading import load_config  # noqa: E402


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

    from rl.ddpo_update import DDPOUpdate
    from rl.trainer import Trainer

    Trainer.from_config(config, DDPOUpdate, resolve=resolve_packaged).train()


def resolve_packaged(name: str) -> str:
    """`tinyworld:NAME` as the folder of the packaged weights; any other name as it is."""
    if not name.startswith("tinyworld:"):
        return name
    from tinyworld import weights_path

    return str(weights_path(name.removeprefix("tinyworld:")))


def packaged_recipe(name: str) -> Path:
    """A recipe of tinyworld."""
    # Found without importing tinyworld, so that --help stays fast.
    return Path(importlib.util.find_spec("tinyworld").origin).parent / name


if __name__ == "__main__":
    main()
