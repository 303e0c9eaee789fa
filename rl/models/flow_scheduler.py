"""Which schedulers are flow matching, and any of them as the Euler one, whose step is x + v dt."""

from collections.abc import Mapping
from typing import Any

EULER = "FlowMatchEulerDiscreteScheduler"


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler, given as itself or as its config with `_class_name`, follows x_s = (1 - s) x0 + s eps."""
    config = scheduler if isinstance(scheduler, Mapping) else getattr(scheduler, "config", {})
    name = config.get("_class_name") or type(scheduler).__name__
    return name.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"


def as_flow(scheduler: Any) -> Any:
    """The same schedule in Euler steps; a solver of higher order keeps no record of single steps that could be trained.

    Raises:
        ValueError: it adds noise by itself, or its sigmas run the other way.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    config = dict(scheduler.config)
    for name in ("stochastic_sampling", "invert_sigmas"):
        if config.get(name):
            raise ValueError(f"model: expected a scheduler without {name}, got {type(scheduler).__name__} with it.")
    if type(scheduler) is FlowMatchEulerDiscreteScheduler:
        return scheduler
    shift = config.get("flow_shift") or config.get("shift") or 1.0
    known = {} if "flow_shift" in config else config
    return FlowMatchEulerDiscreteScheduler.from_config(known | {"shift": shift})
