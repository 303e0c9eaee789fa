import numpy as np
import torch

from reward.explanation.saliency import saliency


class CornerReward:
    """Looks at the upper left corner alone."""

    def __call__(self, images, prompts):
        return images[..., :6, :6].square().sum((1, 2, 3))


def test_the_map_is_where_the_score_looks():
    found = saliency(CornerReward(), torch.full((3, 24, 30), 0.5), "a corner")
    assert found.shape == (24, 30) and found.max() == 1 and found.min() >= 0
    assert found[:6, :6].min() > 0.3 and found[12:, 12:].max() < 1e-3


def test_it_repeats_and_works_where_gradients_are_off(reward, images):
    with torch.inference_mode():
        first = saliency(reward, images[0], "a red circle")
    assert np.array_equal(first, saliency(reward, images[0], "a red circle"))
    assert np.isfinite(first).all() and first.max() == 1


def test_a_score_that_no_pixel_moves_gives_zeros():
    class Blind:
        def __call__(self, images, prompts):
            return 0 * images.sum((1, 2, 3))

    assert not saliency(Blind(), torch.rand(3, 8, 8), "anything").any()
