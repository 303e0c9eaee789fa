"""A tiny random open_clip model in open_clip's own local-dir layout, and rewards on it."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from reward import HyperAlignReward

WORDS = "a an the red green blue yellow circle square triangle left right of above below photo two three and".split()
IMAGE_SIZE = 24
EMBED_DIM = 16


def save_tokenizer(folder: Path, end_of_text: bool = True):
    """A word-level tokenizer whose end-of-text id is the highest."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["<pad>", "<unk>", "<start>", *WORDS, "<end>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if end_of_text:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<start> $A <end>",
            special_tokens=[("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])],
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<start>", eos_token="<end>"
    ).save_pretrained(folder)


def build_open_clip_folder(
    folder: Path, resize_mode: str = "shortest", tokenizer_name: str = "tokenizer", seed: int = 0
) -> Path:
    """open_clip_config.json, open_clip_model.safetensors and a tokenizer subfolder."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    model_cfg = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": 10,
            "vocab_size": len(WORDS) + 4,
            "hf_tokenizer_name": tokenizer_name,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    preprocess_cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "resize_mode": resize_mode}
    torch.manual_seed(seed)
    model = open_clip.model.CLIP(**model_cfg)
    with torch.no_grad():  # open_clip's start values leave prompts almost equal
        model.token_embedding.weight.mul_(20)
        model.visual.conv1.weight.mul_(5)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    save_tokenizer(folder / tokenizer_name if tokenizer_name != "." else folder)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def build_backbone():
    """build_open_clip_folder, for tests that need a variant."""
    return build_open_clip_folder


@pytest.fixture(scope="session")
def write_tokenizer():
    return save_tokenizer


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory) -> Path:
    return build_open_clip_folder(tmp_path_factory.mktemp("models") / "open-clip")


@pytest.fixture(scope="session")
def backbone_name(open_clip_folder) -> str:
    return f"local-dir:{open_clip_folder}"


def randomise_head(reward: HyperAlignReward, seed: int = 0) -> HyperAlignReward:
    """Move every zero-initialised part, so that a test sees the whole formula."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in reward.head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return reward


@pytest.fixture
def reward(backbone_name) -> HyperAlignReward:
    """A head with random weights on the tiny backbone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return randomise_head(HyperAlignReward.from_backbone(backbone_name, adapter_hidden=8))


@pytest.fixture
def untrained(backbone_name) -> HyperAlignReward:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return HyperAlignReward.from_backbone(backbone_name, adapter_hidden=8)


@pytest.fixture
def images() -> torch.Tensor:
    """Four smooth random pictures, (4,3,24,24) in [0,1]."""
    coarse = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=IMAGE_SIZE, mode="bilinear").clamp(0.02, 0.98)


@pytest.fixture
def prompts() -> list[str]:
    return ["a red circle", "two blue square", "a green triangle left of a circle", "a photo"]


def write_rated_table(folder: Path) -> Path:
    """scores.csv beside its pictures: 24 prompts of 3, the brighter a picture the better it is said to fit."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    lines = ["image,prompt,score"]
    colours, shapes = ("red", "green", "blue", "yellow"), ("circle", "square", "triangle")
    prompts = [f"{number} {c} {s}" for number in ("two", "three") for c in colours for s in shapes]
    for i in range(3 * len(prompts)):
        level = torch.rand((), generator=generator)
        pixels = level * torch.rand(IMAGE_SIZE, IMAGE_SIZE, 3, generator=generator)
        Image.fromarray((255 * pixels).byte().numpy()).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{prompts[i // 3]},{1 + 4 * level.item():.4f}")
    path = folder / "scores.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def rated_table(tmp_path_factory) -> Path:
    return write_rated_table(tmp_path_factory.mktemp("rated"))
