"""Stands for what benchmarks/agiqa3k downloads: random towers of the same classes, and pictures with scores."""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# More pictures than the 256 components that the encoder wants; the first ones have scores.
PICTURES, PICTURES_OF_A_PROMPT, RATED = 260, 4, 96
WORDS = "a tray river forest cosmic universe of in anime style sushi dog cat red blue house".split()


def write_towers(folder: Path) -> None:
    """An EfficientNet-Lite0 and a sentence encoder of MiniLM's width, random, in the files of the packages."""
    import timm
    from transformers import BertConfig, BertModel

    from benchmarks.agiqa3k.build_encoder import IMAGE_TOWER, IMAGE_WEIGHTS, TEXT_FOLDER, TEXT_WIDTH

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = timm.create_model(IMAGE_TOWER, pretrained=False).state_dict()
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        vocabulary += [f"{start}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" for start in ("", "##")]
        text = BertModel(
            BertConfig(
                vocab_size=len(vocabulary), hidden_size=TEXT_WIDTH, num_hidden_layers=1, num_attention_heads=12,
                intermediate_size=32, max_position_embeddings=128,
            )  # fmt: skip
        )
    (folder / IMAGE_WEIGHTS).parent.mkdir(parents=True)
    # The package has other names for the same layers, in the same order.
    torch.save({f"_layer{i}.{name.rsplit('.')[-1]}": value for i, (name, value) in enumerate(state.items())},
               folder / IMAGE_WEIGHTS)  # fmt: skip
    text_folder = folder / TEXT_FOLDER
    text.save_pretrained(text_folder)
    _write_tokenizer(text_folder, vocabulary)


def _write_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {word: place for place, word in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(ids) + "\n")
    marks = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(marks | {"tokenizer_class": "BertTokenizer", "model_max_length": 128})
    )


def write_pictures(folder: Path) -> None:
    """data.csv and images/ as AGIQA-3K has them: the score is how red a picture is."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow("name prompt adj1 adj2 style mos_quality std_quality mos_align std_align".split())
        for number in range(PICTURES):
            if number % PICTURES_OF_A_PROMPT == 0:
                words = " ".join(WORDS[place] for place in rng.choice(len(WORDS), 4, replace=False))
            name, score = f"model_{number:03d}.jpg", float(rng.random())
            pixels = rng.integers(0, 256, (16, 16, 3))
            pixels[..., 0] = pixels[..., 0] * score
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name)
            if number < RATED:
                prompt = f"{words} {number // PICTURES_OF_A_PROMPT}"
                writer.writerow([name, prompt, "", "", "", 1.0, 0.5, 5 * score, 0.5])
