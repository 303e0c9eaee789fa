import torch

from tinyworld.models.dual_encoder import tokenize
from tinyworld.scenes import all_prompts
from tinyworld.vocabulary import CONTEXT_LENGTH, build_tokenizer


def test_every_prompt_fits_with_one_token_a_word():
    tokenizer = build_tokenizer()
    for prompt in all_prompts()[::7]:
        ids = tokenizer(prompt.text).input_ids
        assert len(ids) == len(prompt.text.split()) + 2 <= CONTEXT_LENGTH
        assert tokenizer.decode(ids, skip_special_tokens=True) == prompt.text


def test_end_of_text_is_the_highest_id_where_clip_pools():
    tokenizer = build_tokenizer()
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    ids = tokenize(["a red ring", "two blue squares"])
    assert ids.shape == (2, CONTEXT_LENGTH)
    assert torch.equal(ids.argmax(-1), torch.tensor([4, 4]))


def test_any_text_tokenizes_and_saving_keeps_the_ids(tmp_path):
    from transformers import CLIPTokenizer

    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    for text in ("two magenta triangles", "Ünïcode 🦊 & more", ""):
        assert loaded(text).input_ids == tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in tokenizer("Ünïcode 🦊").input_ids[1:-1]
