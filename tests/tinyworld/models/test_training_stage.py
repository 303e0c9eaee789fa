import pytest
import torch

from tinyworld.models.training_stage import train_stage


class Interrupted(Exception):
    pass


def fit(work_dir, stop_at=None, steps=1000):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)

    def loss_of_step(rng):
        if stop_at is not None and loss_of_step.calls == stop_at:
            raise Interrupted
        loss_of_step.calls += 1
        x = torch.from_numpy(rng.standard_normal((8, 4))).float() + 0.1 * torch.randn(8, 4)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    loss_of_step.calls = 0
    options = dict(work_dir=work_dir, steps=steps, learning_rate=1e-2, seed=3, average=0.9)
    try:
        train_stage("line", model, loss_of_step, **options)
    except Interrupted:
        pass
    return model


def test_it_learns_and_an_interrupted_stage_goes_on_as_if_it_had_not_been(tmp_path):
    whole = fit(tmp_path / "whole")
    assert (whole.weight - 1).abs().max() < 0.05
    fit(tmp_path / "parts", stop_at=700)
    resumed = fit(tmp_path / "parts")
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_a_finished_stage_gives_its_weights_without_training(tmp_path):
    whole = fit(tmp_path)
    again = fit(tmp_path, stop_at=0)
    assert torch.equal(again.weight, whole.weight)


def test_the_report_sees_the_averaged_weights(tmp_path):
    model = torch.nn.Linear(1, 1)
    seen = []
    train_stage(
        "report", model, lambda rng: model(torch.ones(1, 1)).square().mean(), work_dir=tmp_path, steps=500,
        learning_rate=1e-2, seed=0, average=0.5, report=lambda: seen.append(model.weight.item()) or "",
    )  # fmt: skip
    assert seen == [pytest.approx(model.weight.item())]


def test_a_parameter_that_the_loss_does_not_reach_is_kept_as_it_is(tmp_path):
    def train(stop):
        model = torch.nn.ParameterList([torch.ones(2), torch.full((2,), 5.0)])
        steps = iter(range(stop))

        def loss_of_step(rng):
            next(steps)
            return model[0].square().sum()

        try:
            train_stage("part", model, loss_of_step, work_dir=tmp_path, steps=1000, learning_rate=1e-2, seed=0)
        except StopIteration:
            pass
        return model

    train(600)
    model = train(1000)
    assert model[0].abs().max() < 0.1 and torch.equal(model[1], torch.full((2,), 5.0))
