import torch

from rl.lora.stored_weights import MovingAverage


def test_average_follows_and_is_swapped_in_and_out():
    weight = torch.nn.Parameter(torch.zeros(3))
    average = MovingAverage([weight], decay=0.9)
    expected = torch.zeros(3)
    for update in range(40):
        weight.data.fill_(float(update))
        average.update()
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    torch.testing.assert_close(average.shadow[0], expected)
    with average.applied():
        torch.testing.assert_close(weight.data, expected)
    assert weight.data.tolist() == [39.0] * 3
