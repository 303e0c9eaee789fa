"""The learning rate and weight decay of each parameter in a training run."""

from collections.abc import Mapping

from torch import nn

GROUPS = ("head", "adapter", "scales", "backbone")


def parameter_groups(
    head: nn.Module, backbone: nn.Module | None, learning_rates: Mapping[str, float], weight_decay: float
) -> list[dict]:
    """Parameter groups for AdamW: head, adapter, scales and, if it is trained, backbone.

    Only matrices get weight decay. Biases, gains of layer norms, the scales a0 and the gates of the adapters do not,
    because 0 is no natural value for them.

    Args:
        head: a `HyperAlign`, or a control that contains some.
        backbone: the backbone if it is trained too, else None.
        learning_rates: the learning rate of each of `GROUPS`.
        weight_decay: decay of the matrices.

    Returns:
        dicts with `params`, `name`, `lr` and `weight_decay`; groups without parameters are left out.
    """
    found: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in head.named_parameters():
        group = _group_of(name)
        found.setdefault((group, parameter.ndim >= 2 and group != "scales"), []).append(parameter)
    for parameter in backbone.parameters() if backbone is not None else ():
        found.setdefault(("backbone", parameter.ndim >= 2), []).append(parameter)
    return [
        {"params": found[group, decays], "name": group, "lr": learning_rates[group], "weight_decay": decay}
        for group in GROUPS
        for decays, decay in ((False, 0.0), (True, weight_decay))
        if (group, decays) in found
    ]


def _group_of(name: str) -> str:
    parts = name.split(".")
    if parts[-1] in ("image_scale", "text_scale", "gate"):
        return "scales"
    return "adapter" if any(part.endswith("_adapter") for part in parts) else "head"
