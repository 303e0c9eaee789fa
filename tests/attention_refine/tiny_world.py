"""A tiny random LLaVA with its real processor, and a table of questions about small pictures."""

import numpy as np
from PIL import Image

from tests.attention_refine.conftest import IMAGE, build_llava

WORDS = "<unk> <s> </s> <pad> user : assistant is it red blue yes no how many one two three ? . what colour".split()


def build_processor():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(WORDS)} | {f"w{i}": i for i in range(len(WORDS), IMAGE)}
    backend = Tokenizer(models.WordLevel(vocabulary | {"<image>": IMAGE}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=4, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def save_tiny_llava(folder):
    """What `load_model` reads."""
    build_llava().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


def make_table(folder, count=12):
    """A .csv of `count` questions of two lengths, about `count` / 2 pictures."""
    rng = np.random.default_rng(0)
    lines = ["image,question,answer"]
    for i in range(count):
        name = f"{i // 2}.png"
        if i % 2 == 0:
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / name)
        lines.append(f"{name},{'is it red ?' if i % 2 else 'how many is it ? what colour ?'},yes")
    (folder / "questions.csv").write_text("\n".join(lines) + "\n")
    return folder / "questions.csv"
