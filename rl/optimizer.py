"""The optimiser that a config describes."""

from typing import Any

import torch

from rl.config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' 8-bit one, with the config's rate, betas, decay and epsilon.

    Raises:
        ImportError: 8-bit is asked for and bitsandbytes is not installed.

    Example:
        >>> make_optimizer(config, add_lora(unet, rank=8, alpha=8, targets=["to_q"], seed=0))
    """
    optimizer_class: Any = torch.optim.AdamW
    if config.train_use_8bit_adam:
        try:
            from bitsandbytes.optim import AdamW8bit as optimizer_class
        except ImportError as error:
            raise ImportError("train_use_8bit_adam needs bitsandbytes: `pip install bitsandbytes`.") from error
    return optimizer_class(
        parameters,
        lr=config.train_learning_rate,
        betas=(config.train_adam_beta1, config.train_adam_beta2),
        weight_decay=config.train_adam_weight_decay,
        eps=config.train_adam_epsilon,
    )
