import numpy as np
import pytest
import torch
from PIL import Image

from tinyworld.models.llava import build_llava, build_llava_processor, to_pixel_values
from tinyworld.models.llava_batches import Packer, answer_loss, sample_scenes, tired
from tinyworld.models.llava_measure import conversation
from tinyworld.questions import Question
from tinyworld.scenes import SIZE

ASKED = [
    [Question("caption", "Describe the picture.", "a red ring"), Question("thing", "Is there a ring?", "yes")],
    [Question("number", "How many rings are there in the picture?", "two")],
]


@pytest.fixture(scope="module")
def processor():
    return build_llava_processor()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_llava().eval()


def alone(processor, question, picture=None):
    """The same conversation, one to a row, from the processor."""
    told = [*conversation(question.text), {"role": "assistant", "content": [{"type": "text", "text": question.answer}]}]
    picture = picture or Image.new("RGB", (SIZE, SIZE))
    return processor(images=picture, text=processor.apply_chat_template(told), return_tensors="pt")


def test_a_packed_conversation_has_the_tokens_of_the_chat_template(processor):
    packed = Packer(processor).pack([[question] for asked in ASKED for question in asked])
    for row, question in enumerate(question for asked in ASKED for question in asked):
        ids = alone(processor, question).input_ids[0]
        assert torch.equal(packed.input_ids[row, : len(ids)], ids)
        answer = processor.tokenizer(question.answer, add_special_tokens=False).input_ids
        told = packed.labels[row][packed.labels[row] != -100].tolist()
        assert told == [*answer, processor.tokenizer.eos_token_id]


def test_packed_questions_do_not_see_each_other(processor, model):
    """The loss of a packed batch is that of every conversation alone."""
    pictures = (torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    packed = Packer(processor).pack(ASKED)
    with torch.no_grad():
        together, features = answer_loss(model, to_pixel_values(pictures), packed)
        total, count = 0.0, 0
        for picture, asked in zip(pictures, ASKED, strict=True):
            image = Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy())
            for question in asked:
                inputs = alone(processor, question, image)
                told = len(processor.tokenizer(question.answer, add_special_tokens=False).input_ids) + 1
                labels = inputs.input_ids.clone()
                labels[:, :-told] = -100
                total += model(**inputs, labels=labels).loss.item() * told
                count += told
    assert features.shape == (2 * 64, 128)
    assert together.item() == pytest.approx(total / count, abs=2e-5)


def test_wear_is_gentle_repeatable_and_leaves_some_as_they_are():
    scenes = sample_scenes(np.random.default_rng(0), 64)
    worn = [tired(scenes.pictures, np.random.default_rng(1)) for _ in range(2)]
    assert torch.equal(*worn)
    assert worn[0].min() >= 0 and worn[0].max() <= 1
    difference = (worn[0] - scenes.pictures).abs().mean((1, 2, 3))
    assert 5 <= (difference == 0).sum() <= 30
    assert 0.01 < difference.max() < 0.15


def test_patches_are_labelled_where_the_objects_are():
    scenes = sample_scenes(np.random.default_rng(0), 32)
    colours, shapes, places = scenes.patch_labels(6)
    assert colours.shape == shapes.shape == (32, 64) and torch.equal(colours > 0, shapes > 0)
    assert places.shape == (32, 64, 2)
    axis = (torch.arange(8) + 0.5) / 4 - 1
    patches = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)
    assert (places - patches)[shapes > 0].norm(dim=-1).max() < 0.35
    coloured = scenes.pictures.amax(1) - scenes.pictures.amin(1)
    chroma = coloured.unfold(1, 6, 6).unfold(2, 6, 6).mean((-1, -2)).flatten(1)
    assert chroma[shapes > 0].mean() > 0.3 and chroma[shapes == 0].mean() < 0.03
