"""Make the optimiser for a config, and take a step with it."""

from typing import Any

import torch

from rl.config.train_config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' 8-bit AdamW, with the config's learning rate, betas, weight decay and epsilon.

    Raises:
        ImportError: 8-bit is asked for and bitsandbytes is not installed.

    Example:
        >>> make_optimizer(config, add_lora(policy.denoiser, rank=8, alpha=8, targets=["to_q"], seed=0))
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


def take_step(
    config: TrainConfig, accelerator: Any, optimizer: Any, parameters: list[torch.nn.Parameter]
) -> torch.Tensor:
    """Clip the gradients' norm to train_max_grad_norm, take a step, clear gradients; returns the norm before clipping.

    Raises:
        FloatingPointError: the norm is not finite; the step is not taken.
    """
    norm = accelerator.clip_grad_norm_(parameters, config.train_max_grad_norm)
    # With fp16 the scaler skips such steps itself and lowers its scale.
    if accelerator.scaler is None and not torch.isfinite(norm):
        raise FloatingPointError(
            f"Expected a finite gradient, got norm {norm.item()}; the step was not taken. Resume from the newest "
            "checkpoint with a lower train_learning_rate, or with mixed_precision bf16 or no."
        )
    optimizer.step()
    optimizer.zero_grad()
    return norm.detach()
