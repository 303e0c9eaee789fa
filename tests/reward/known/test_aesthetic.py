import pytest
import torch
from safetensors.torch import save_file

from reward.backbone.towers import Backbone
from reward.known.aesthetic import AestheticReward, read_head
from rl.rewards.loading import load_rewards
from tinyworld import weights_path


def write_head(path, widths, prefix="layers."):
    torch.manual_seed(0)
    # Numbered with gaps, as the published head is: dropouts stand in between. And beyond 9: names are not in order.
    numbers = [0, 2, 10][: len(widths) - 1]
    layers = [torch.nn.Linear(one, two) for one, two in zip(widths, widths[1:], strict=False)]
    tensors = {}
    for number, layer in zip(numbers, layers, strict=True):
        tensors |= {f"{prefix}{number}.{name}": value.detach() for name, value in layer.named_parameters()}
    save_file(tensors, path)
    return layers


@pytest.fixture(scope="module")
def backbone():
    return f"local-dir:{weights_path('open-clip')}"


def test_score_is_the_chain_of_layers_over_unit_features(tmp_path, backbone):
    model = Backbone(backbone)
    layers = write_head(tmp_path / "head.safetensors", [model.embed_dim, 16, 8, 1])
    reward = AestheticReward(tmp_path / "head.safetensors", backbone)
    images = torch.rand(4, 3, 48, 48)
    scores, info = reward(images, ("",) * 4, ())
    features = model.encode_images(model.transform(images)).float()
    expected = torch.nn.Sequential(*layers)(features / features.norm(dim=1, keepdim=True))[:, 0]
    assert scores.shape == (4,) and info == {}
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_differentiable_in_the_pictures(tmp_path, backbone):
    write_head(tmp_path / "head.safetensors", [Backbone(backbone).embed_dim, 1])
    images = torch.rand(2, 3, 48, 48, requires_grad=True)
    AestheticReward(tmp_path / "head.safetensors", backbone)(images, ("", ""), ())[0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_as_a_spec_with_a_weight(tmp_path, backbone):
    write_head(tmp_path / "head.safetensors", [Backbone(backbone).embed_dim, 1])
    head = tmp_path / "head.safetensors"
    rewards = load_rewards([f"aesthetic:{head}@{backbone}=0.5", "tinyworld.oracle:oracle_reward"])
    assert rewards.names == ["aesthetic", "oracle_reward"] and rewards.rewards[0].weight == 0.5
    total, parts = rewards(torch.rand(2, 3, 48, 48), ["a red ring", "a blue square"])
    torch.testing.assert_close(total, 0.5 * parts["aesthetic"] + parts["oracle_reward"])


def test_refusals(tmp_path, backbone):
    path = tmp_path / "head.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_head(path)
    torch.save({"weight": torch.zeros(1, 4)}, tmp_path / "head.pth")
    with pytest.raises(ValueError, match="is a pickle, which is not loaded"):
        read_head(tmp_path / "head.pth")
    write_head(path, [7, 1])
    with pytest.raises(ValueError, match="Expected a head over .* features"):
        AestheticReward(path, backbone)
    write_head(path, [7, 3])
    with pytest.raises(ValueError, match="ends in one number"):
        read_head(path)
    save_file({"0.weight": torch.zeros(4, 8), "0.bias": torch.zeros(4), "1.weight": torch.zeros(1, 5),
               "1.bias": torch.zeros(1)}, path)  # fmt: skip
    with pytest.raises(ValueError, match="layers that fit each other"):
        read_head(path)
    save_file({"0.weight": torch.zeros(4, 8)}, path)
    with pytest.raises(ValueError, match="bias"):
        read_head(path)
