import torch

from rl.models.clamping import clamp_straight_through


def test_clamps_forward_and_passes_every_gradient_on():
    values = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.7], requires_grad=True)
    clamped = clamp_straight_through(values)
    assert torch.equal(clamped, values.clamp(0, 1))
    (clamped * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_without_a_graph_it_is_the_plain_clamp():
    values = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(clamp_straight_through(values), values.clamp(0, 1))
