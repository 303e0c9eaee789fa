"""A tiny random LLaVA of the real classes, with a processor that knows a few words."""

import string
from functools import cache

import torch

WORDS = (
    "user assistant : ? . , yes no Yes No Is is Are are there a an the in picture Does does show Describe exactly two"
    " left of red blue ring rings square Can you see"
).split()


def word_tokenizer(words=WORDS, **special):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | special
    names = {role: name for role, name in names.items() if name}
    tokens = [*dict.fromkeys(["<unk>", *names.values(), "<image>", *words, *string.ascii_lowercase])]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **names, extra_special_tokens={"image_token": "<image>"}, padding_side="right"
    )


def build_llava(tokenizer, seed=0):
    """(model, processor): 4 text layers, 16 image tokens of 16 x 16 pixels."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16,
            patch_size=4, projection_dim=16,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
        # as initialised, a random model's next token hardly depends on what it sees
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(8)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=4, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for message in messages %}user : {% for part in message['content'] %}"
            "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
            "{% if add_generation_prompt %}assistant :{% endif %}"
        ),
    )  # fmt: skip
    return model.eval(), processor


@cache
def tiny_captioner():
    """(model, processor), random, the same at each call; not to be changed."""
    return build_llava(word_tokenizer())


def save_tiny_captioner(folder):
    """The same, saved as `from_pretrained` loads it."""
    model, processor = tiny_captioner()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
