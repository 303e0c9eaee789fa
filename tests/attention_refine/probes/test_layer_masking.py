"""Image tokens zeroed from a layer on."""

import pytest
import torch

from attention_refine.probes.layer_masking import ImageZeroedFrom
from attention_refine.vlm.decoder import find_decoder
from tests.attention_refine.conftest import IMAGE, llava_inputs

PROMPTS = ([1, IMAGE, 5, 6], [1, 7, 8, IMAGE, 9, 5, 6])


def entering(model, layer, inputs):
    seen = []
    hook = find_decoder(model).layers[layer].register_forward_hook(
        lambda module, args, kwargs, output: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    return seen[0]


def generate(model, inputs, **options):
    return model.generate(
        **inputs, max_new_tokens=4, do_sample=False, suppress_tokens=[IMAGE], return_dict_in_generate=True,
        output_logits=True, **options,
    )  # fmt: skip


def test_image_tokens_and_no_others_enter_the_layer_as_zero(llava):
    inputs = llava_inputs(*PROMPTS)
    plain = entering(llava, 2, inputs)
    with ImageZeroedFrom(llava, 2):
        zeroed = entering(llava, 2, inputs)
    image = inputs["input_ids"] == IMAGE
    assert zeroed[image].abs().max() == 0 and plain[image].abs().min(-1).values.max() > 0
    assert torch.equal(zeroed[~image], plain[~image])


def test_from_layer_0_on_the_picture_makes_no_difference_and_later_it_does(llava):
    one, other = llava_inputs(*PROMPTS, seed=0), llava_inputs(*PROMPTS, seed=1)
    logits = {}
    for layer in (0, 1, 5, 6):
        with ImageZeroedFrom(llava, layer):
            logits[layer] = [torch.stack(generate(llava, inputs).logits) for inputs in (one, other)]
    assert torch.equal(*logits[0])
    assert all(not torch.equal(*logits[layer]) for layer in (1, 5, 6))
    assert torch.equal(logits[6][0], torch.stack(generate(llava, one).logits))
    assert not torch.equal(logits[5][0], logits[6][0])


def test_without_a_cache_it_is_the_same(llava):
    inputs = llava_inputs(*PROMPTS)
    with ImageZeroedFrom(llava, 2):
        cached, plain = (torch.stack(generate(llava, inputs, use_cache=use).logits) for use in (True, False))
    assert torch.allclose(cached, plain, atol=1e-5)


def test_llava_next_newlines_go_with_the_image(llava_next):
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    sizes = torch.tensor([[32, 32]])
    patches = image_size_to_num_patches((32, 32), llava_next.config.image_grid_pinpoints, 16)
    pixels = torch.randn(1, patches, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = 16 + 8 * 9  # the whole picture, and 8 rows of 8 with a newline each
    ids = torch.tensor([[1, *[IMAGE] * tokens, 5, 6]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, "image_sizes": sizes}
    with ImageZeroedFrom(llava_next, 3):
        zeroed = entering(llava_next, 3, inputs)
    assert zeroed[0, 1:-2].abs().max() == 0 and zeroed[0, -2:].abs().max() > 0


def test_nothing_is_left_behind_and_a_layer_out_of_range_is_refused(llava):
    inputs = llava_inputs(*PROMPTS)
    with torch.no_grad():
        before = llava(**inputs).logits
        with pytest.raises(ZeroDivisionError), ImageZeroedFrom(llava, 1):
            1 / 0  # noqa: B018
        assert torch.equal(llava(**inputs).logits, before)
    with pytest.raises(ValueError, match="0 to 6"):
        ImageZeroedFrom(llava, 7)
