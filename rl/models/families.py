"""`policy_for` finds the policy class of a pipeline. A new model family is one new file and one line here."""

import dataclasses
import warnings
from typing import Any

from rl.config.train_config import TrainConfig
from rl.models.flow_pipeline import FlowPolicy
from rl.models.policy import Policy
from rl.models.stable_diffusion import StableDiffusionPolicy

FAMILIES = (StableDiffusionPolicy, FlowPolicy)


def policy_for(pipeline: Any, config: TrainConfig) -> Policy:
    """The policy of the first family that supports the pipeline's class.

    Args:
        pipeline: a diffusers text-to-image pipeline.
        config: gives sampler, resolution and negative prompt.

    Raises:
        ValueError: no family supports the class, or the family does not support the config.

    Example:
        >>> policy_for(StableDiffusionPipeline.from_pretrained(folder), DDPOConfig(sample_num_steps=10)).steps[0].level
        901
    """
    for family in FAMILIES:
        if family.fits(pipeline):
            _announce_ignored(family, pipeline, config)
            return family.from_config(pipeline, config)
    known = ", ".join(name for family in FAMILIES for name in family.pipeline_classes)
    raise ValueError(f"model: expected a pipeline of class {known}, got {type(pipeline).__name__}.")


def _announce_ignored(family: Any, pipeline: Any, config: TrainConfig) -> None:
    defaults = {item.name: item.default for item in dataclasses.fields(config) if item.name in family.ignored_options}
    given = [f"{name}={getattr(config, name)}" for name, value in defaults.items() if getattr(config, name) != value]
    if given:
        warnings.warn(
            f"{type(pipeline).__name__} has another sampler; ignored: {', '.join(given)}. Leave these options out.",
            stacklevel=3,
        )
