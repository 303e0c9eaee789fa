"""Which tokens belong to which image, and where they lie in it."""

import pytest
import torch

from attention_refine.contrastive.image_tokens import find_image_token_id, fold, locate_images


def locate(text, lengths=None):
    """One sample written as letters: i image token, n newline, . other, _ padding."""
    tokens = list(text)
    placeholders = torch.tensor([[t in "in" for t in tokens]])
    newlines = torch.tensor([[t == "n" for t in tokens]])
    return locate_images(placeholders, newlines, torch.tensor([[t != "_" for t in tokens]]), lengths)


def written(index):
    return "".join("-" if i < 0 else str(i) for i in index[0].tolist())


@pytest.mark.parametrize(
    ("text", "lengths", "expected"),
    [
        ("_.iiii..iiii.", None, "--0000--1111-"),
        ("__...", None, "-----"),
        ("iiiiiiii.", [4, 4], "00001111-"),
        ("iiiiiiii.", None, "00000000-"),
        (".iiii" + "iin" * 2 + ".", None, "-000000-00--"),
        (".iiii" + "iin" * 2 + "iiii" + "in" * 3 + ".", None, "-000000-00-11111-1-1--"),
        (".iiii" + "iin" + "iiii" + "iin" + ".", [7, 7], "-000000-111111--"),
        (".iiiinn.", None, "-0000---"),
    ],
)
def test_images_are_told_apart(text, lengths, expected):
    assert written(locate(text, lengths).image_index) == expected


def test_newlines_are_kept_apart():
    prompt = locate(".iiii" + "iin" * 2 + ".")
    assert written(prompt.newline_index) == "-------0--0-"
    assert not (prompt.is_image & (prompt.newline_index >= 0)).any()


@pytest.mark.parametrize("lengths", [[4], [4, 4, 4], [3, 5, 4]])
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(ValueError, match="Expected"):
        placeholders = torch.ones(2, 4, dtype=torch.bool)
        locate_images(placeholders, torch.zeros_like(placeholders), placeholders, lengths)


def test_lengths_run_on_over_the_samples():
    placeholders = torch.tensor([[True] * 4, [False, True, True, True]])
    prompt = locate_images(placeholders, torch.zeros_like(placeholders), torch.ones_like(placeholders), [2, 2, 3])
    assert prompt.image_index.tolist() == [[0, 0, 1, 1], [-1, 0, 0, 0]]


def test_values_fold_back_to_the_grid():
    prompt = locate("..iiii.")
    values = torch.arange(7.0)[None]
    (folded,) = fold(values, prompt, 0, 0, (2, 2))
    assert folded.tolist() == [[2, 3], [4, 5]]
    (folded,) = fold(values, prompt, 0, 0, (1, 4))
    assert folded.tolist() == [[2, 3, 4, 5]]
    assert fold(values, prompt, 0, 0, None) == [] == fold(values, prompt, 0, 0, (2, 3))


def test_llava_nexts_tokens_fold_to_a_coarse_and_a_fine_map():
    prompt = locate(".iiii" + "iiin" * 2 + ".")
    coarse, fine = fold(torch.arange(14.0)[None], prompt, 0, 0, (2, 2))
    assert coarse.tolist() == [[1, 2], [3, 4]]
    assert fine.tolist() == [[5, 6, 7], [9, 10, 11]]
    prompt = locate(".iiii" + "iiin" + ".")
    coarse, fine = fold(torch.arange(10.0)[None], prompt, 0, 0, (2, 2))
    assert fine.tolist() == [[5, 6, 7]]


def test_the_image_token_is_the_models_own(llava):
    assert find_image_token_id(llava) == 99
    assert find_image_token_id(llava, 5) == 5
    assert find_image_token_id(torch.nn.Linear(1, 1)) is None
