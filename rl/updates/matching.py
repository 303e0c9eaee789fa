"""Advantage-weighted matching: a policy gradient with the final picture's denoising error as minus log-likelihood.

Xue et al., "Advantage Weighted Matching" (arXiv:2509.25050) and the ELBO ratio of arXiv:2602.04663:

    log ratio = mse_old - mse_new              mean squared errors at the same noise level and noise
    loss      = max(-A ratio, -A clip(ratio, 1 - range, 1 + range)), or -A ratio
"""

import torch

from rl.updates.forward import ForwardUpdate, NoisedPictures, squared_error


class MatchingUpdate(ForwardUpdate):
    """Advantage-weighted matching; `config` is a `MatchingConfig`."""

    def loss(self, rows: NoisedPictures) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `matching_loss`."""
        config = self.config
        scale = rows.scale if config.matching_weight == "velocity" else 1.0
        old = self.predict_old(rows)
        base = self.predict_base(rows) if config.train_kl_weight else None
        new = self.predict_new(rows)
        errors = [squared_error(prediction, rows.clean, scale) for prediction in (new, old)]
        loss, ratio = matching_loss(*errors, rows.advantages, config.matching_clip_range)
        penalty, record = self.kl_penalty(rows, new, base)
        clipped = ((ratio - 1).abs() > (config.matching_clip_range or torch.inf)).float().mean()
        return loss.mean() + penalty, record | {"ratio_mean": ratio.mean(), "clip_fraction": clipped}


def matching_loss(
    new_error: torch.Tensor, old_error: torch.Tensor, advantages: torch.Tensor, clip_range: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (B,), and detached ratios exp(old_error - new_error), (B,).

    Args:
        new_error: (B,), mean squared error of the trained model, with a gradient.
        old_error: (B,), of the model that sampled the pictures, at the same noise.
        advantages: (B,).
        clip_range: PPO's clip range; 0: not clipped.

    Example:
        >>> loss, ratio = matching_loss(new_error, old_error, torch.tensor([1.3, -0.2]), clip_range=1e-2)
    """
    ratio = torch.exp(old_error - new_error)
    loss = -advantages * ratio
    if clip_range:
        loss = torch.maximum(loss, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
    return loss, ratio.detach()
