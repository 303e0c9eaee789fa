import torch

from reward.model.modulation import MAX_GAIN, MAX_SHIFT, Modulation


def test_it_starts_at_one_zero_one():
    for inputs in (0, 1, 3):
        alpha, beta, gamma = Modulation(inputs, 8)(torch.randn(5, inputs))
        assert torch.equal(alpha, torch.ones(5)) and torch.equal(gamma, torch.ones(5))
        assert torch.equal(beta, torch.zeros(5))


def test_bounds_hold_and_are_wide_enough():
    modulation = Modulation(3, 8)
    torch.nn.init.normal_(modulation.weight, std=100.0)
    alpha, beta, gamma = modulation(1e3 * torch.randn(200, 3))
    for gain in (alpha, gamma):
        assert (gain > 1 / MAX_GAIN - 1e-4).all() and (gain < MAX_GAIN + 1e-4).all()
    assert (beta.abs() <= MAX_SHIFT).all()
    with torch.no_grad():
        modulation.weight.zero_()
        modulation.bias.fill_(1.0)  # tanh(1) = 0.76 of the way: reachable without saturation
    alpha, beta, gamma = modulation(torch.zeros(1, 3))
    assert gamma * alpha > 10 and gamma * beta > 3


def test_every_parameter_learns_from_the_second_step_on():
    modulation = Modulation(3, 8)
    optimizer = torch.optim.SGD(modulation.parameters(), lr=0.1)
    z = torch.randn(16, 3)
    for _ in range(2):
        optimizer.zero_grad()
        alpha, beta, gamma = modulation(z)
        ((alpha + beta + gamma - z.sum(-1)) ** 2).mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in modulation.parameters())


def test_without_inputs_it_is_three_constants():
    modulation = Modulation(0, 8)
    assert [n for n, _ in modulation.named_parameters()] == ["bias"]
