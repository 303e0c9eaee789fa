"""The ways to score pictures that are compared, with the same pictures, prompts and weights.

Each is used as documented: the lines of the model card, the call of the metric, open_clip's README. If a side cannot do
something (for example a gradient through a processor of PIL pictures), it raises an error, and the table shows a dash.
"""

import abc
import random
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tinyworld.scenes import COLOURS, RELATIONS, SHAPES

REPEATED = "a red ring left of a blue square"
_THINGS = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
_PROMPTS = [f"{one} {relation} {two}" for one in _THINGS for relation in RELATIONS for two in _THINGS]


class Scorer(abc.ABC):
    """A side of `benchmarks.sides`; subclasses load a model and score a batch.

    Args:
        settings: "open_clip", "transformers": folders of the same weights; "pictures": folder of files.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        warnings.simplefilter("ignore")
        self.files = sorted(Path(settings["pictures"]).iterdir())
        self.rng = random.Random(0)
        self.load(settings)

    @abc.abstractmethod
    def load(self, settings: dict[str, Any]) -> None:
        """Load the model."""

    @abc.abstractmethod
    def score_pil(self, pictures: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        """Scores of RGB pictures just read from files."""

    @abc.abstractmethod
    def score_tensors(self, pictures: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Scores of pictures (B, 3, H, W) in [0, 1]; differentiable if the library's way is."""

    def run_epoch(self, batch: int, inputs: str, prompts: str, mode: str, calls: int, warm_up: int) -> dict[str, float]:
        """Seconds per call, mean over `calls` calls after `warm_up` uncounted ones; or the error."""
        files, tensors = self.inputs(batch, inputs)
        seconds = []
        for call in range(-warm_up, calls):
            texts = [REPEATED] * batch if prompts == "repeated" else self.new_prompts(batch)
            started = time.perf_counter()
            try:
                self.call(files, tensors, texts, mode)
            except (RuntimeError, ValueError, TypeError) as error:
                return {"refused": f"{type(error).__name__}: {error}"[:80]}
            if call >= 0:
                seconds.append(time.perf_counter() - started)
        return {"seconds": sum(seconds) / len(seconds)}

    def inputs(self, batch: int, inputs: str) -> tuple[list[Path], torch.Tensor | None]:
        """The files of a batch, and their pictures as tensors if `inputs` asks for tensors."""
        files = [self.files[i % len(self.files)] for i in range(batch)]
        if inputs == "files":
            return files, None
        pixels = [torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()) for path in files]
        return files, torch.stack(pixels).permute(0, 3, 1, 2).contiguous().float() / 255

    def call(self, files: list[Path], tensors: torch.Tensor | None, texts: list[str], mode: str) -> torch.Tensor:
        """One call in mode no_grad, forward (with autograd) or step (with the gradient of the pixels)."""
        if mode == "no_grad":
            with torch.no_grad():
                return self._score(files, tensors, texts)
        # forward: autograd records the graph, which is not used; step: it is used
        pictures = tensors.clone().requires_grad_()
        scores = self.score_tensors(pictures, texts)
        if not scores.requires_grad:
            raise RuntimeError("the score does not depend on the pixels")
        if mode == "step":
            scores.sum().backward()
            if not pictures.grad.abs().sum() > 0:
                raise RuntimeError("no gradient reached the pixels")
        return scores

    def _score(self, files: list[Path], tensors: torch.Tensor | None, texts: list[str]) -> torch.Tensor:
        if tensors is not None:
            return self.score_tensors(tensors, texts)
        return self.score_pil([Image.open(path).convert("RGB") for path in files], texts)

    def new_prompts(self, count: int) -> list[str]:
        """Different prompts of the tiny world's grammar. In both tokenizers each of their words is one token."""
        return self.rng.sample(_PROMPTS, count)


class HyperAlignScorer(Scorer):
    """`HyperAlignReward` as in this project's README, without preprocessing by the caller."""

    def load(self, settings):
        from reward import HyperAlignReward

        self.reward = HyperAlignReward.from_backbone(f"local-dir:{settings['open_clip']}")

    def score_pil(self, pictures, prompts):
        return self.reward(pictures, prompts)

    score_tensors = score_pil

    def new_prompts(self, count):
        # a cached prompt would not count as new
        self.reward.backbone.clear_cache()
        return super().new_prompts(count)


class OpenClipScorer(Scorer):
    """open_clip with its own transform, in batches; on tensors the same steps without the conversions."""

    def load(self, settings):
        import open_clip
        from torchvision.transforms import Compose, InterpolationMode, Resize

        name = f"local-dir:{settings['open_clip']}"
        self.model, _, self.transform = open_clip.create_model_and_transforms(name)
        self.model.eval().requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(name)
        resize, crop, *_, normalise = self.transform.transforms
        assert isinstance(resize, Resize) and resize.interpolation == InterpolationMode.BICUBIC
        self.on_tensors = Compose([resize, crop, normalise])

    def score_pil(self, pictures, prompts):
        return self._cosine(torch.stack([self.transform(picture) for picture in pictures]), prompts)

    def score_tensors(self, pictures, prompts):
        return self._cosine(self.on_tensors(pictures), prompts)

    def _cosine(self, pixels, prompts):
        image = self.model.encode_image(pixels, normalize=True)
        with torch.no_grad():
            text = self.model.encode_text(self.tokenizer(prompts), normalize=True)
        return (image * text).sum(-1)


class TransformersScorer(Scorer):
    """CLIPModel and its processor, as in the model card."""

    def load(self, settings):
        from transformers import CLIPModel, CLIPProcessor

        self.model = CLIPModel.from_pretrained(settings["transformers"]).eval().requires_grad_(False)
        self.processor = CLIPProcessor.from_pretrained(settings["transformers"])

    def score_pil(self, pictures, prompts, **options):
        inputs = self.processor(text=prompts, images=pictures, return_tensors="pt", padding=True, **options)
        outputs = self.model(**inputs)
        return outputs.logits_per_image.diagonal()

    def score_tensors(self, pictures, prompts):
        return self.score_pil(list(pictures), prompts, do_rescale=False)


class TorchmetricsScorer(TransformersScorer):
    """torchmetrics' CLIPScore, which takes byte tensors and returns the mean score."""

    def load(self, settings):
        from torchmetrics.multimodal.clip_score import CLIPScore

        super().load(settings)
        self.metric = CLIPScore(model_name_or_path=lambda: (_TensorFeatures(self.model), self.processor))

    def score_pil(self, pictures, prompts):
        arrays = [torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) for picture in pictures]
        return self.metric(arrays, prompts)

    def score_tensors(self, pictures, prompts):
        return self.metric(list((255 * pictures).to(torch.uint8)), prompts)


class _TensorFeatures(torch.nn.Module):
    """Returns features as tensors, as torchmetrics 1.9 expects; transformers 5 returns them in an output object."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, pixels):
        return self.model.get_image_features(pixels).pooler_output

    def get_text_features(self, ids, mask):
        return self.model.get_text_features(ids, mask).pooler_output


class ImscoreScorer(Scorer):
    """imscore's CLIPScore, which takes tensors."""

    def load(self, settings):
        from imscore.preference.model import CLIPScore

        self.scorer = CLIPScore(settings["transformers"]).eval().requires_grad_(False)

    def score_pil(self, pictures, prompts):
        arrays = np.stack([np.asarray(picture) for picture in pictures])
        return self.score_tensors(torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255, prompts)

    def score_tensors(self, pictures, prompts):
        return self.scorer.score(pictures, prompts)
