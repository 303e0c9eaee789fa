import torch
from torch import nn

from reward import HyperAlign, HyperAlignConfig
from reward.training.controls import AdditiveTwin
from reward.training.parameter_groups import parameter_groups

RATES = {"head": 1.0, "adapter": 2.0, "scales": 3.0, "backbone": 4.0}


def named(groups, *modules):
    names = {id(p): name for module in modules for name, p in module.named_parameters()}
    return {(g["name"], g["weight_decay"]): (g["lr"], {names[id(p)] for p in g["params"]}) for g in groups}


def test_groups():
    head = HyperAlign(HyperAlignConfig(embed_dim=6, adapter_hidden=4))
    backbone = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    found = named(parameter_groups(head, backbone, RATES, 0.1), head, backbone)
    both = ("image_adapter", "text_adapter")
    assert found == {
        ("head", 0.1): (1.0, {"modulation.weight", "modulation.hidden.weight"}),
        ("head", 0.0): (1.0, {"modulation.bias", "modulation.hidden.bias"}),
        ("adapter", 0.1): (2.0, {f"{a}.{m}.weight" for a in both for m in ("down", "up")}),
        ("adapter", 0.0): (2.0, {f"{a}.{m}.bias" for a in both for m in ("down", "up")}),
        ("scales", 0.0): (3.0, {"image_scale", "text_scale", *(f"{a}.gate" for a in both)}),
        ("backbone", 0.1): (4.0, {"0.weight"}),
        ("backbone", 0.0): (4.0, {"0.bias", "1.weight", "1.bias"}),
    }


def test_no_parameter_is_left_out_or_twice():
    for module in (
        AdditiveTwin(HyperAlignConfig(embed_dim=6)),
        HyperAlign(HyperAlignConfig(embed_dim=6, adapter=False, modulation="none")),
    ):
        groups = parameter_groups(module, None, RATES, 0.1)
        placed = [id(p) for group in groups for p in group["params"]]
        assert sorted(placed) == sorted(id(p) for p in module.parameters())
        assert all(p.ndim < 2 for g in groups for p in g["params"] if g["weight_decay"] == 0)
        torch.optim.AdamW(groups)
