"""Which learning rate and which decay each parameter of a training run has."""

from collections.abc import Mapping

from torch import nn

GROUPS = ("head", "adapter", "scales", "backbone")


def parameter_groups(
    head: nn.Module, backbone: nn.Module | None, learning_rates: Mapping[str, float], weight_decay: float
) -> list[dict]:
    """AdamW's groups: head, adapter, scales and, where one is trained, backbone.

    Matrices decay; biases, layer norms' gains, the scales a0 and the adapters' gates, whose zero means nothing
    special, do not.

    Args:
        head: a `HyperAlign`, or a control built of some.
        backbone: trained too, or None.
        learning_rates: of each of `GROUPS`.
        weight_decay: of the matrices.

    Returns:
        dicts with `params`, `name`, `lr` and `weight_decay`; no empty ones.
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
