"""The tiny LLaVA's build and, from the shipped weights, what it is there for."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

import tinyworld
from tinyworld import weights_path
from tinyworld.models.llava import (
    build_llava,
    build_llava_processor,
    build_llava_tokenizer,
    save_llava,
    to_pixel_values,
)
from tinyworld.models.llava_batches import sample_scenes
from tinyworld.models.llava_measure import answers, conversation, measure_llava
from tinyworld.questions import YES_NO_KINDS
from tinyworld.scenes import all_prompts


@pytest.fixture(scope="module")
def shipped():
    folder = weights_path("llava")
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    return model, AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def measured(shipped):
    """On 150 scenes of held-out prompts, and as many questions of each kind."""
    rows = measure_llava(*shipped, 150, held_out=True, seed=4)
    print({key: round(row["right"], 3) for key, row in rows.items()})
    return rows


def test_a_word_is_a_token_and_any_text_comes_back():
    tokenizer = build_llava_tokenizer()
    prompts = [prompt.text for prompt in all_prompts()[::41]]
    for text in [*prompts, "is there exactly one ring in the picture ?", "yes", "no"]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert len(ids) == len(text.split()) and tokenizer.decode(ids) == text
    assert tokenizer("YES, No", add_special_tokens=False).input_ids == tokenizer("yes , no").input_ids[1:]
    odd = "ünïcode 🦊 zebra"
    ids = tokenizer(odd).input_ids
    assert ids[0] == tokenizer.bos_token_id and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == odd


def test_an_answer_without_a_word_is_empty(shipped):
    for tokenizer in (build_llava_tokenizer(), shipped[1].tokenizer):
        assert tokenizer.decode([], skip_special_tokens=True) == ""
        assert tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=True) == ""


def test_the_vocabulary_is_the_same_in_every_process():
    """The library's own BPE trainer gives other numbers from run to run: weights and tokenizer would part."""
    code = "from tinyworld.models.llava import build_llava_tokenizer as t; print(sorted(t().get_vocab().items()))"
    root = Path(tinyworld.__file__).resolve().parents[1]
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(sorted(build_llava_tokenizer().get_vocab().items()))


def test_the_chat_template_is_llavas(shipped):
    _, processor = shipped
    asked = conversation("Is there a red ring?")
    text = processor.apply_chat_template(asked, add_generation_prompt=True)
    assert text == "USER: <image>\nIs there a red ring? ASSISTANT:"
    told = [*asked, {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}]
    assert processor.apply_chat_template(told) == "USER: <image>\nIs there a red ring? ASSISTANT: yes</s>"


def test_the_picture_is_read_as_in_training_whatever_its_size(shipped):
    from torchvision.transforms.functional import resize, to_pil_image

    _, processor = shipped
    pictures = sample_scenes(np.random.default_rng(0), 3).pictures
    for size in (48, 192):
        images = [to_pil_image(resize(picture, [size, size], interpolation=0)) for picture in pictures]
        got = processor(images=images, text=["<image>"] * 3, return_tensors="pt")
        off = (got.pixel_values - to_pixel_values(pictures)).abs()
        # to_pil_image rounds down to 8 bits: one step at most; enlarged and shrunk again, edges differ a little
        assert off.max() <= 1.01 / 255 / 0.3 if size == 48 else off.mean() < 0.02
        assert ((got.input_ids == processor.image_token_id).sum(1) == 64).all()


def test_the_shipped_folder_is_a_llava_of_the_real_classes(shipped):
    model, processor = shipped
    assert type(processor) is LlavaProcessor
    assert type(processor.image_processor).__name__.startswith("CLIPImageProcessor")
    assert processor.tokenizer.is_fast and processor.tokenizer.padding_side == "left"
    assert type(AutoModelForImageTextToText.from_pretrained(weights_path("llava"))) is LlavaForConditionalGeneration
    config = model.config
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (-2, "default")
    assert config.text_config.num_hidden_layers == 8 and config.image_token_id == processor.image_token_id
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    weights = load_file(weights_path("llava") / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    size = sum(path.stat().st_size for path in weights_path("llava").iterdir())
    assert size <= 8e6
    assert processor.tokenizer.get_vocab() == build_llava_tokenizer().get_vocab()
    assert json.loads((weights_path("llava") / "config.json").read_text())["dtype"] == "float32"


def test_what_is_saved_comes_back(tmp_path):
    torch.manual_seed(0)
    model = build_llava().eval()
    model.half().float()
    save_llava(model, tmp_path)
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    for (name, one), two in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert next(model.parameters()).dtype == torch.float32
    picture = sample_scenes(np.random.default_rng(0), 1).pictures
    question = ["Describe the picture."]
    assert answers(loaded, AutoProcessor.from_pretrained(tmp_path), picture, question) == answers(
        model, build_llava_processor(), picture, question
    )


def test_captions_of_held_out_scenes_tell_their_facts(measured):
    assert measured["caption: facts told"]["right"] >= 0.9


# What PROVENANCE.md says, with the noise of 150.
@pytest.mark.parametrize(
    "kind, least",
    [("whole", 0.83), ("thing", 0.95), ("count", 0.93), ("relation", 0.79), ("attribute", 0.95), ("number", 0.9),
     ("neighbour", 0.92)],
)  # fmt: skip
def test_answers_about_held_out_scenes_are_right(measured, kind, least):
    row = measured[f"question: {kind}"]
    assert row["count"] == 150
    assert row["right"] >= max(least, row["blind"] + 0.05)


def test_yes_or_no_is_right_nine_times_in_ten(measured):
    rows = [measured[f"question: {kind}"] for kind in YES_NO_KINDS]
    assert sum(row["right"] * row["count"] for row in rows) / sum(row["count"] for row in rows) >= 0.9


def test_a_batch_of_questions_is_answered_as_one_by_one(shipped):
    scenes = sample_scenes(np.random.default_rng(5), 4)
    texts = ["Describe the picture.", "Is there a ring?", "How many objects are there in the picture?", "What is this?"]
    together = answers(*shipped, scenes.pictures, texts)
    assert together == [answers(*shipped, scenes.pictures[i : i + 1], texts[i : i + 1])[0] for i in range(4)]
