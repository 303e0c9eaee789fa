"""Twins of a model that cannot judge alignment: what they reach, a score reaches without reading the pair."""

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
    """The same model, shown one constant prompt (the mean of the training prompts' features) for every pair.

    Args:
        config: the model's own.
    """

    def __init__(self, config: HyperAlignConfig):
        super().__init__()
        self.model = HyperAlign(config)
        self.register_buffer("text", torch.zeros(config.embed_dim))

    @torch.no_grad()
    def calibrate(self, image_features: Tensor, text_features: Tensor):
        """As `HyperAlign.calibrate`, on features (N, D) of training pairs; fixes the constant prompt."""
        self.text.copy_(text_features.mean(0))
        self.model.calibrate(image_features, self.text.expand_as(text_features))

    def forward(self, image_features: Tensor, text_features: Tensor) -> HyperAlignOutput:
        """Features of pairs, each (B, D) -> output of (B,), the same whatever the texts are."""
        return self.model(image_features, self.text.expand_as(text_features))


class AdditiveTwin(nn.Module):
    """score = f(image) + g(prompt): two models, one shown a constant prompt, one a constant image; no interaction.

    It knows which pictures look well made and which prompts are easy, but not whether one fits the other. Everything
    in its output but the score is f's.

    Args:
        config: the model's own.
    """

    def __init__(self, config: HyperAlignConfig):
        super().__init__()
        self.image_part = TextBlindTwin(config)
        self.prompt_part = HyperAlign(config)
        self.register_buffer("image", torch.zeros(config.embed_dim))

    @torch.no_grad()
    def calibrate(self, image_features: Tensor, text_features: Tensor):
        """As `HyperAlign.calibrate`, on features (N, D) of training pairs; fixes both constants."""
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


def fit_control(
    name: str, config: TrainingConfig, train: FeaturePairs, val: FeaturePairs, progress: bool = True
) -> nn.Module:
    """One of `CONTROLS`, trained as the model of `config` is; the additive one without entailment, having no pair.

    Args:
        config: `config.model.embed_dim` is the features' width.
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
    """Write a twin's weights into `folder`."""
    weights = {key: value.detach().cpu().contiguous() for key, value in twin.state_dict().items()}
    write_whole(_weights_path(name, folder), lambda temporary: save_file(weights, temporary))


def load_controls(config: HyperAlignConfig, folder: Path) -> dict[str, nn.Module]:
    """The twins that lie in `folder`; none where the model was trained without."""
    from safetensors.torch import load_file

    found = {}
    for name, kind in CONTROLS.items():
        path = _weights_path(name, folder)
        if path.is_file():
            found[name] = kind(config).eval()
            load_strict(found[name], load_file(path), folder)
    return found


def _weights_path(name: str, folder: Path) -> Path:
    return folder / f"{name.replace('-', '_')}.safetensors"
