"""`policy_for` finds the policy class of a pipeline. A new model family is one new file and one line here."""

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
            return family.from_config(pipeline, config)
    known = ", ".join(name for family in FAMILIES for name in family.pipeline_classes)
    raise ValueError(f"model: expected a pipeline of class {known}, got {type(pipeline).__name__}.")
