"""What every trainer's entry script does: parse, build, run."""

import importlib
import sys
from collections.abc import Sequence

from rl.config.loading import load_config
from rl.config.train_config import TrainConfig
from rl.packaged import packaged_recipe, resolve_packaged


def run_trainer(
    config_class: type[TrainConfig],
    update: str,
    argv: Sequence[str] | None,
    *,
    recipe: str,
    prog: str,
    description: str,
) -> None:
    """Read the config from recipe and flags, then train with an update rule; a wrong config ends in one line.

    Args:
        config_class: the rule's own.
        update: `module:Class` of the rule; imported once the config is right, so that `--help` stays fast.
        argv: None: the command line.
        recipe: packaged recipe that is the start without `--config`.
        prog: name of the command.
        description: for `--help`.

    Example:
        >>> run_trainer(NFTConfig, "rl.updates.nft:NFTUpdate", ["--help"], recipe="nft.yaml", prog="hyperalign-nft",
        ...             description="Fine-tuning by DiffusionNFT.")
    """
    try:
        config = load_config(
            config_class, sys.argv[1:] if argv is None else argv, default_recipe=packaged_recipe(recipe), prog=prog,
            description=description,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"{prog}: {error}")

    from rl.trainer import Trainer

    module, _, name = update.partition(":")
    Trainer.from_config(config, getattr(importlib.import_module(module), name), resolve=resolve_packaged).train()
