"""The tiny LLaVA: built from the real classes, trained to caption scenes and to answer questions, saved as a folder.

The stages: first the vision tower and projector, as in LLaVA; then words for single objects; then all questions about
all scenes.
"""

from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from tinyworld.models.llava_batches import YES_NO_PLAN, Packer, answer_loss, sample_scenes, single_objects, tired
from tinyworld.models.stable_diffusion import edit_json, to_hub_layout
from tinyworld.models.training_stage import train_stage
from tinyworld.questions import CAPTION_QUESTION, NUMBERS, WHOLE_QUESTION
from tinyworld.scenes import COLOURS, RELATIONS, SHAPES, SIZE

PATCH = 6  # 8 x 8 image tokens
_WIDTH = 128
_TEXT_LAYERS = 8
_SHARPNESS = 15  # inverse temperature of the softmax over cosines
_VISION_LAYERS = 5  # LLaVA does not use the output of the last one
# Not all of these occur in our questions. They keep a user's own questions from being split into letters.
_QUESTION_WORDS = """user assistant : ? . , yes no nothing a an the one two three zero exactly is are there in picture
    image of how many what where which who and not colour color shape shapes object objects only or do you see show
    shows it this that on to""".split()
_SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
_IMAGE_TOKEN = "<image>"
# LLaVA-1.5's conversation, in the form that transformers' processor renders.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'assistant' %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% else %}ASSISTANT: "
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ part['text'] }}{{ eos_token }}{% endgeneration %}{% endfor %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@lru_cache
def build_llava_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE in which every word of the grammar and of the questions is one token.

    Upper case becomes lower case. Any text can be tokenized.

    Example:
        >>> build_llava_tokenizer().tokenize("Is there a red ring?")
        ['is</w>', 'there</w>', 'a</w>', 'red</w>', 'ring</w>', '?</w>']
    """
    asked = f"{CAPTION_QUESTION} {WHOLE_QUESTION}".lower().replace("{prompt}?", "").replace(".", "").split()
    names = {*COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *" ".join(RELATIONS).split(), *NUMBERS}
    words = sorted({*_QUESTION_WORDS, *asked, *names})
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(words)
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*_SPECIAL.values(), _IMAGE_TOKEN, *tokens]))}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    # not decoders.Strip: it panics on an empty answer
    backend.decoder = decoders.Sequence(
        [decoders.Replace("</w>", "Ġ"), decoders.ByteLevel(), decoders.Replace(Regex(" $"), "")]
    )
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **_SPECIAL,
        extra_special_tokens={"image_token": _IMAGE_TOKEN},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    broken = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if broken:
        raise RuntimeError(f"Expected one token for every word of the questions but {broken} are split.")
    return tokenizer


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges until every word is one token, the same in every process.

    The library's own trainer breaks ties by the order of a hash map, which differs from run to run.
    """
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while pairs := Counter(pair for symbols in spelled for pair in pairwise(symbols)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for symbols in spelled:
            at = 0
            while at < len(symbols) - 1:
                if (symbols[at], symbols[at + 1]) == best:
                    symbols[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def build_llava_processor() -> LlavaProcessor:
    """The processor: it resizes pictures to 48 x 48 and turns conversations into tokens, 64 of them per picture."""
    images = CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.3, 0.3, 0.3],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_llava_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which "default" leaves out
        chat_template=_CHAT_TEMPLATE,
    )


def build_llava() -> LlavaForConditionalGeneration:
    """An untrained model with LLaVA-1.5's settings: features of the tower's second-to-last layer, no class token."""
    tokenizer = build_llava_tokenizer()
    vision = CLIPVisionConfig(
        image_size=SIZE,
        patch_size=PATCH,
        hidden_size=_WIDTH,
        intermediate_size=3 * _WIDTH,
        num_hidden_layers=_VISION_LAYERS,
        num_attention_heads=4,
        projection_dim=_WIDTH,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=3 * _WIDTH,
        num_hidden_layers=_TEXT_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(_IMAGE_TOKEN),
        image_seq_length=(SIZE // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def to_pixel_values(pictures: torch.Tensor) -> torch.Tensor:
    """Normalises pictures (B, 3, 48, 48) in [0, 1] for the vision tower, as the image processor does."""
    return (pictures - 0.5) / 0.3


def train_eyes(
    model: LlavaForConditionalGeneration, vae, work_dir: Path, steps: int, seed: int, batch: int = 32
) -> float:
    """Trains vision tower and projector to predict the words of the object at each patch; returns the minutes it took.

    LLaVA's first stage aligns the projector with a language model's frozen word embeddings. This one does the same,
    with the initial embeddings of the language model. A linear layer also predicts where the object is.
    """
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    place = torch.nn.Linear(_WIDTH, 2)
    trained = torch.nn.ModuleList([tower, projector, place])

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        scenes = sample_scenes(rng, batch)
        pixel_values = to_pixel_values(tired(scenes.pictures, rng, vae))
        with torch.autocast("cpu", torch.bfloat16):
            states = tower(pixel_values, output_hidden_states=True).hidden_states
            features = projector(states[model.config.vision_feature_layer][:, 1:])
        colours, shapes, places = scenes.patch_labels(PATCH)
        features = normalize(features.float(), dim=-1)
        off = (place(_WIDTH**0.5 * features) - places)[shapes > 0].square().mean()
        return patch_loss(model, features, colours, shapes) + off

    return train_stage(
        "llava_eyes", trained, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=1.5e-3, seed=seed,
        average=0.99, checkpoint_every=100,
    )  # fmt: skip


def patch_loss(model, features: torch.Tensor, colours: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each patch's colour word and shape word. The logits are cosines with the word embeddings.

    Args:
        features: (B, P, D), the projected features of the patches.
        colours, shapes: (B, P) labels of `Scenes.patch_labels`; 0 is the word "nothing".
    """
    embeddings = normalize(model.get_input_embeddings().weight.detach(), dim=-1)
    tokens = build_llava_tokenizer().convert_tokens_to_ids
    loss = torch.zeros(())
    for names, labels in ((COLOURS, colours), (SHAPES, shapes)):
        words = embeddings[tokens([f"{word}</w>" for word in ("nothing", *names)])]
        logits = _SHARPNESS * normalize(features, dim=-1) @ words.T
        loss = loss + cross_entropy(logits.flatten(0, 1), labels.flatten())
    return loss


def train_llava(
    model: LlavaForConditionalGeneration, vae, work_dir: Path, steps: int, seed: int, stage: str = "llava"
) -> float:
    """Trains the whole model to answer questions about scenes of the seen split; returns the minutes it took.

    Each picture is encoded once for all of its questions, see `tinyworld.models.llava_batches.Packer`.

    Args:
        stage: "llava_words" uses single objects only, because words are learned fastest from them; "llava" uses all
            scenes; "llava_yes_no" asks mostly yes/no questions.
    """
    batch, words = 16, stage == "llava_words"
    plan = YES_NO_PLAN if stage == "llava_yes_no" else None
    packer = Packer(build_llava_processor())
    model.set_attn_implementation("eager")  # with a mask on a CPU, its backward pass is a quarter faster than SDPA's

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        scenes = single_objects(rng, batch) if words else sample_scenes(rng, batch)
        packed = packer.pack([scenes.questions(index, rng, plan) for index in range(batch)], rng)
        pixel_values = to_pixel_values(tired(scenes.pictures, rng, vae))
        with torch.autocast("cpu", torch.bfloat16):
            loss, features = answer_loss(model, pixel_values, packed)
        colours, shapes, _ = scenes.patch_labels(PATCH)
        # With the answers' loss alone the vision tower learns slowly.
        return loss + patch_loss(model, features.float().view(batch, -1, _WIDTH), colours, shapes)

    return train_stage(
        stage, model, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=1.5e-3,
        seed=seed, average=0.99 if words else 0.995, checkpoint_every=50, report=lambda: "",
    )  # fmt: skip


def save_llava(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Writes model and processor as a folder for ``from_pretrained``. The weights are fp16 and load as float32."""
    build_llava_processor().save_pretrained(folder)
    copy = build_llava()
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder)
    to_hub_layout(folder / "model.safetensors", "vision_tower.", "vision_model.")
    edit_json(folder / "config.json", {"dtype": "float32"})
