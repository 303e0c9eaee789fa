import torch

from rl.monitoring.early_stop import EarlyStop


def make(patience):
    return EarlyStop([torch.nn.Parameter(torch.zeros(2))], patience)


def see(stop, values):
    answers = []
    for epoch, value in enumerate(values, start=1):
        stop.parameters[0].data.fill_(epoch)
        answers.append(stop.see(epoch, value))
    return answers


def test_stops_after_that_many_evaluations_in_a_row_and_keeps_the_best_weights():
    stop = make(2)
    assert see(stop, [0.1, 0.3, 0.2, 0.4, 0.4, 0.3]) == [False] * 5 + [True]
    assert (stop.best, stop.best_epoch) == (0.4, 4) and "epoch 4" in stop.message(6)
    stop.restore_best()
    assert stop.parameters[0].tolist() == [4.0, 4.0]


def test_patience_0_never_stops_and_keeps_nothing():
    stop = make(0)
    assert see(stop, [0.5, 0.4, 0.3]) == [False] * 3 and not stop.weights
    stop.restore_best()
    assert stop.parameters[0].tolist() == [3.0, 3.0]


def test_goes_on_from_its_state():
    whole, first, second = make(2), make(2), make(2)
    values = [0.3, 0.2, 0.25]
    expected = see(whole, values)
    answers = see(first, values[:2])
    second.load_state_dict(first.state_dict(), first.weights)
    second.parameters[0].data.fill_(3)
    answers.append(second.see(3, values[2]))
    assert answers == expected == [False, False, True]
    second.restore_best()
    assert second.parameters[0].tolist() == [1.0, 1.0]


def test_an_alarm_stops_when_it_is_asked_to():
    for on_alarm in (True, False):
        stop = EarlyStop([torch.nn.Parameter(torch.zeros(2))], 0, on_alarm=on_alarm)
        assert not stop.see(1, 0.4)
        assert stop.see(2, 0.3, alarm=True) == on_alarm
    stop = EarlyStop([torch.nn.Parameter(torch.zeros(2))], 0, on_alarm=True)
    assert see(stop, [0.4, 0.3]) == [False, False]
    assert stop.see(3, 0.2, alarm=True) and "hacked" in stop.message(3) and "epoch 1" in stop.message(3)
    stop.restore_best()
    assert stop.parameters[0].tolist() == [1.0, 1.0]
