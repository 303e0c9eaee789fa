"""Control models ("twins") that cannot judge alignment. A model shows alignment only by what it reaches beyond them."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reward.files.writing import write_whole
from reward.model.config import HyperAlignConfig
from reward.model.head import HyperAlign, HyperAlignOutput
from reward.model.losses import Objective
from reward.model.saving import load_strict
from reward.training.fit_loop import fit
from reward.training.pairs import FeaturePairs
from reward.training.recipe import TrainingConfig


class TextBlindTwin(nn.Module):
    """The same model with one constant prompt for every pair: the mean of the training prompts' features.

    Args:
        config: the configuration of the model it is compared to.
    """

    def __init__(self, config: HyperAlignConfig):
        super().__init__()
        self.model = HyperAlign(config)
        self.register_buffer("text", torch.zeros(config.embed_dim))

    @torch.no_grad()
    def calibrate(self, image_features: Tensor, text_features: Tensor):
        """As `HyperAlign.calibrate`, on features (N, D) of training pairs; also sets the constant prompt."""
        self.text.copy_(text_features.mean(0))
        self.model.calibrate(image_features, self.text.expand_as(text_features))

    def forward(self, image_features: Tensor, text_features: Tensor) -> HyperAlignOutput:
        """Features of pairs, each (B, D) -> output of (B,), which does not depend on the texts."""
        return self.model(image_features, self.text.expand_as(text_features))


class AdditiveTwin(nn.Module):
    """score = f(image) + g(prompt), without interaction: f sees a constant prompt, g sees a constant image.

    It can learn which images look good and which prompts are easy, but not whether an image fits its prompt. The
    output except the score comes from f.

    Args:
        config: the configuration of the model it is compared to.
    """

    def __init__(self, config: HyperAlignConfig):
        super().__init__()
        self.image_part = TextBlindTwin(config)
        self.prompt_part = HyperAlign(config)
        self.register_buffer("image", torch.zeros(config.embed_dim))

    @torch.no_grad()
    def calibrate(self, image_features: Tensor, text_features: Tensor):
        """As `HyperAlign.calibrate`, on features (N, D) of training pairs; also sets both constants."""
        self.image_part.calibrate(image_features, text_features)
        self.image.copy_(image_features.mean(0))
        self.prompt_part.calibrate(self.image.expand_as(image_features), text_features)

    def forward(self, image_features: Tensor, text_features: Tensor) -> HyperAlignOutput:
        """Features of pairs, each (B, D) -> output of (B,)."""
        output = self.image_part(image_features, text_features)
        prompt = self.prompt_part(self.image.expand_as(image_features), text_features)
        return output._replace(score=output.score + prompt.score)


CONTROLS: dict[str, type[TextBlindTwin] | type[AdditiveTwin]] = {
    "text-blind": TextBlindTwin,
    "additive": AdditiveTwin,
}

# What a score that is no better than the control cannot claim.
MEANINGS = {
    "text-blind": "one that never reads the prompt",
    "additive": "one that rates picture and prompt apart and never compares them",
}


def fit_control(
    name: str, config: TrainingConfig, train: FeaturePairs, val: FeaturePairs, progress: bool = True
) -> nn.Module:
    """Train one of `CONTROLS` as `config` trains the model.

    The additive twin is trained without entailment, because it has no geometry of a pair.

    Args:
        name: a key of `CONTROLS`.
        config: `config.model.embed_dim` must be the width of the features.
        train, val: training and validation pairs.
        progress: show a bar.

    Returns:
        the trained twin.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        twin = CONTROLS[name](config.model)
    twin.to(train.image)
    twin.calibrate(train.image, train.text)
    model = config.model
    entailment = None if name == "additive" else model.entailment
    objective = Objective(model.lambda_rank, model.lambda_ent, entailment, model.contraction)
    fit(twin, train, val, objective, config, progress=progress, description=f"fit {name} twin")
    return twin


def save_control(name: str, twin: nn.Module, folder: Path) -> None:
    """Write the weights of a twin to `folder`."""
    weights = {key: value.detach().cpu().contiguous() for key, value in twin.state_dict().items()}
    write_whole(_weights_path(name, folder), lambda temporary: save_file(weights, temporary))


def load_controls(config: HyperAlignConfig, folder: Path) -> dict[str, nn.Module]:
    """Load the twins saved in `folder`, by name. The dict is empty if the model was trained without them.

    Raises:
        ValueError: weights do not fit `config`.
    """
    from safetensors.torch import load_file

    found = {}
    for name, kind in CONTROLS.items():
        path = _weights_path(name, folder)
        if path.is_file():
            found[name] = kind(config).eval()
            load_strict(found[name], load_file(path), folder)
    return found


def in_words(control: str, gap: float, low: float | None = None, high: float | None = None) -> str | None:
    """What a reader has to know of a model's SRCC minus a control's, on prompts that nobody trained on; None: nothing.

    Args:
        control: a key of `CONTROLS`.
        gap: the difference.
        low, high: its 95 % interval, where there is one. The model is better only if all of it is above 0.

    Example:
        >>> in_words("text-blind", -0.008)
        'On unseen prompts this score is no better than one that never reads the prompt (SRCC -0.008)'
    """
    if low is None or high is None:
        shown, is_better = f"SRCC {gap:+.3f}", gap > 0
    else:
        shown, is_better = f"SRCC {gap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}", low > 0
    if is_better or math.isnan(gap):  # an undefined SRCC is shown as such
        return None
    return f"On unseen prompts this score is no better than {MEANINGS[control]} ({shown})"


def _weights_path(name: str, folder: Path) -> Path:
    return folder / f"{name.replace('-', '_')}.safetensors"
