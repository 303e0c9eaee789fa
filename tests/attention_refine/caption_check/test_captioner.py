import pytest
import torch
from PIL import Image

from attention_refine.caption_check.captioner import Captioner, answer_tokens
from attention_refine.vlm.loading import load_model
from tests.attention_refine.tiny_captioner import (
    WORDS,
    build_llava,
    save_tiny_captioner,
    tiny_captioner,
    word_tokenizer,
)

QUESTIONS = ["Is there a ring ?", "Is there exactly two red rings left of a blue square ?", "Is a square ?"]


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(1)
    pixels = (torch.rand(3, 16, 16, 3, generator=generator) * 255).to(torch.uint8).numpy()
    return [Image.fromarray(picture) for picture in pixels]


@pytest.fixture(scope="module")
def captioner():
    return Captioner(*tiny_captioner(), batch_size=2, max_new_tokens=6)


def test_yes_is_read_from_the_logits_after_the_prompt(captioner, pictures):
    """Against a forward pass of one unpadded prompt, written out here."""
    model, processor = tiny_captioner()
    ids = [processor.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "Yes", "no", "No")]
    for picture, question, found in zip(
        pictures, QUESTIONS, captioner.yes_probability(pictures, QUESTIONS), strict=True
    ):
        inputs = processor(images=picture, text=f"user : <image> {question} assistant :", return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**inputs).logits[0, -1].softmax(-1)[ids]
        assert found.item() == pytest.approx((probabilities[:2].sum() / probabilities.sum()).item(), abs=1e-5)


def test_a_batch_of_mixed_lengths_is_the_same_as_one_by_one(captioner, pictures):
    alone = Captioner(*tiny_captioner(), batch_size=1, max_new_tokens=6)
    together, single = (c.yes_probability(pictures, QUESTIONS) for c in (captioner, alone))
    torch.testing.assert_close(together, single, atol=1e-5, rtol=0)
    assert together.std() > 1e-3, "expected a model whose answers differ"
    assert captioner.captions(pictures, "Describe the picture .") == alone.captions(pictures, "Describe the picture .")


def test_a_caption_is_what_the_model_generates_after_the_prompt(captioner, pictures):
    model, processor = tiny_captioner()
    text = "user : <image> Describe the picture . assistant :"
    for picture, caption in zip(pictures, captioner.captions(pictures, "Describe the picture ."), strict=True):
        inputs = processor(images=picture, text=text, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        tokens = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, length:]
        assert caption == " ".join(processor.tokenizer.decode(tokens, skip_special_tokens=True).split())
        assert caption and "user" not in caption


def test_a_model_that_samples_is_read_greedily_and_left_as_it_was(pictures):
    model, processor = build_llava(word_tokenizer())
    model.generation_config.do_sample, model.generation_config.temperature = True, 5.0
    captioner = Captioner(model, processor, max_new_tokens=6)
    assert len({*(captioner.captions(pictures[:1], "Describe .")[0] for _ in range(3))}) == 1
    assert model.generation_config.do_sample is True and model.generation_config.temperature == 5.0
    assert processor.tokenizer.padding_side == "right"


def test_a_processor_without_chat_template_and_a_tokenizer_without_padding(pictures):
    tokenizer = word_tokenizer([*WORDS, "USER", "ASSISTANT"], pad_token=None)
    model, processor = build_llava(tokenizer)
    processor.chat_template = None
    captioner = Captioner(model, processor, batch_size=3)
    together = captioner.yes_probability(pictures, QUESTIONS)
    inputs = processor(images=pictures[0], text=f"USER: <image>\n{QUESTIONS[0]} ASSISTANT:", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    yes, no = logits[captioner.yes_tokens].logsumexp(0), logits[captioner.no_tokens].logsumexp(0)
    assert together[0].item() == pytest.approx(torch.sigmoid(yes - no).item(), abs=1e-5)
    assert tokenizer.pad_token is None


def test_answer_tokens():
    tokenizer = word_tokenizer()
    yes, no = answer_tokens(tokenizer)
    assert tokenizer.convert_ids_to_tokens(yes) == ["yes", "Yes"]
    assert tokenizer.convert_ids_to_tokens(no) == ["no", "No"]
    with pytest.raises(ValueError, match="a single token for one of 'no'"):
        answer_tokens(word_tokenizer([word for word in WORDS if word.lower() != "no"]))


def test_what_is_wrong_is_said(captioner, pictures):
    with pytest.raises(ValueError, match="one question a picture, got 1 for 3"):
        captioner.yes_probability(pictures, ["a ring ?"])
    with pytest.raises(ValueError, match="at least 1, got 0 and 64"):
        Captioner(*tiny_captioner(), batch_size=0)
    model, processor = build_llava(word_tokenizer())
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(ValueError, match="finite logits"):
        Captioner(model, processor).yes_probability(pictures[:1], ["a ring ?"])


def test_saved_and_loaded(captioner, pictures, tmp_path):
    again = Captioner(*load_model(str(save_tiny_captioner(tmp_path)), device="cpu"))
    assert torch.equal(again.yes_probability(pictures[:1], QUESTIONS[:1]),
                       captioner.yes_probability(pictures[:1], QUESTIONS[:1]))  # fmt: skip
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load_model(str(tmp_path))
