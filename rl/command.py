"""What every trainer's entry script does: parse, build, run. A new update rule is one line of `RULES`."""

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rl.config.loading import load_config
from rl.packaged import packaged_recipe, resolve_packaged

# Rule -> its config, its update (imported once the config is right, so that --help stays fast), what --help says.
# The recipe that it starts from without --config is tinyworld/RULE.yaml, its command hyperalign-RULE.
RULES = {
    "ddpo": (
        "rl.config.ddpo_config:DDPOConfig", "rl.updates.ddpo:DDPOUpdate",
        "DDPO: a policy gradient over denoising steps, with a LoRA and any reward.",
    ),
    "direct": (
        "rl.config.direct_config:DirectConfig", "rl.updates.direct:DirectUpdate",
        "ReFL, DRaFT or AlignProp: the gradient of any differentiable reward, with a LoRA.",
    ),
    "nft": (
        "rl.config.forward_config:NFTConfig", "rl.updates.nft:NFTUpdate",
        "DiffusionNFT on final pictures, with a LoRA and any reward, sampler and guidance.",
    ),
    "matching": (
        "rl.config.forward_config:MatchingConfig", "rl.updates.matching:MatchingUpdate",
        "Advantage-weighted matching on final pictures, with a LoRA and any reward, sampler and guidance.",
    ),
    "dpo": (
        "rl.config.forward_config:DPOConfig", "rl.updates.dpo:DPOUpdate",
        "Online DPO on the best and worst picture of each prompt, with a LoRA and any reward, sampler and guidance.",
    ),
}  # fmt: skip


def trainer_main(rule: str) -> Callable[..., None]:
    """The `main(argv=None)` of a rule's entry script; a wrong config ends it in one line.

    Example:
        >>> trainer_main("nft")(["--output_dir", "runs/nft", "--num_epochs", "1"])
    """

    def main(argv: Sequence[str] | None = None) -> None:
        """Parse, build, run."""
        config_name, update_name, description = RULES[rule]
        try:
            config = load_config(
                imported(config_name), sys.argv[1:] if argv is None else argv,
                default_recipe=packaged_recipe(f"{rule}.yaml"), prog=f"hyperalign-{rule}", description=description,
            )  # fmt: skip
        except (ValueError, OSError) as error:
            sys.exit(f"hyperalign-{rule}: {error}")

        from rl.trainer import Trainer

        Trainer.from_config(config, imported(update_name), resolve=resolve_packaged).train()

    return main


def imported(name: str) -> Any:
    """What `module:name` stands for."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
