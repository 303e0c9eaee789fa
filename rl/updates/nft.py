"""DiffusionNFT: move the prediction towards pictures that are better than their group and away from worse ones.

Zheng et al., "DiffusionNFT: Online Diffusion Reinforcement with Forward Process" (arXiv:2509.16117):

    r    = clip(A, -c, c) / (2 c) + 1/2
    e(p) = mean (p - x0)^2 / detach(mean |p - x0|)
    p+   = b new + (1 - b) old,  p- = (1 + b) old - b new
    loss = c / b (r e(p+) + (1 - r) e(p-))        p+ and p- are linear in p, so x0 and velocity give the same loss
"""

import torch

from rl.updates.forward import ForwardUpdate, NoisedPictures, squared_error

_SMALLEST = 1e-5  # lower bound of mean |p - x0|; below it the prediction counts as exact


class NFTUpdate(ForwardUpdate):
    """Negative-aware fine-tuning; `config` is an `NFTConfig`."""

    def loss(self, rows: NoisedPictures) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `nft_loss`."""
        config = self.config
        old = self.predict_old(rows)
        base = self.predict_base(rows) if config.train_kl_weight else None
        new = self.predict_new(rows)
        loss = nft_loss(new, old, rows.clean, rows.advantages, config.nft_beta, config.train_adv_clip_max).mean()
        penalty, record = self.kl_penalty(rows, new, base)
        moved = ((new.detach() - old) / rows.scale).square().mean()
        return loss + penalty, record | {"distance_to_old": moved}


def nft_loss(
    new: torch.Tensor, old: torch.Tensor, clean: torch.Tensor, advantages: torch.Tensor, beta: float, clip: float
) -> torch.Tensor:
    """Negative-aware loss (B,) from the clean predictions of the trained and the old model.

    Args:
        new: (B,...), of the trained model, with a gradient.
        old: (B,...), of the model that sampled the pictures.
        clean: (B,...), the pictures' latents.
        advantages: (B,).
        beta: b in the formulas above; > 0.
        clip: c in the formulas above; advantages are clipped to +- this.

    Example:
        >>> nft_loss(new, old, clean, torch.tensor([1.3, -0.2]), beta=1.0, clip=5.0).mean().backward()
    """
    share = (advantages.clamp(-clip, clip) / (2 * clip) + 0.5).clamp(0, 1)
    positive = beta * new + (1 - beta) * old
    negative = (1 + beta) * old - beta * new
    return clip / beta * (share * _normalised(positive, clean) + (1 - share) * _normalised(negative, clean))


def _normalised(prediction: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    # The weight adapts to the noise level. It is detached, because moving away from the picture must not lower it.
    size = (prediction.detach() - clean).abs().flatten(1).mean(1).clamp(min=_SMALLEST)
    return squared_error(prediction, clean) / size
