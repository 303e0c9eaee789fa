"""HyperAlignReward: the alignment reward that users import."""

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reward.backbone.loading import resolve_backbone
from reward.backbone.towers import Backbone
from reward.files.quoting import quoted
from reward.images.preprocess import to_tensors
from reward.language.portions import portions
from reward.model import saving
from reward.model.config import HyperAlignConfig
from reward.model.head import HyperAlign, HyperAlignOutput
from reward.model.modulation import MAX_GAIN, MAX_SHIFT
from reward.model.pooling import pairs_of_portions, pool_columns, pool_portions

_MAX_SCORE = MAX_GAIN * (MAX_GAIN + MAX_SHIFT)
# score_matrix handles at most this many numbers (pairs times feature width) at once
_MATRIX_CHUNK = 2**24

_CALIBRATION_PROMPTS = [
    "a photo of a cat", "a city street at night", "a bowl of fruit on a table", "an old man reading a book",
    "a red sports car", "mountains behind a lake", "a child flying a kite", "an abstract painting",
]  # fmt: skip


class HyperAlignReward(nn.Module):
    """How well images match their prompts: score = gamma (alpha cos(u_I, u_T) + beta), see `HyperAlign`.

    Inputs of a call:
        images: float tensor (B,3,H,W) or (3,H,W) in [0,1], uint8 tensor, PIL image, path, numpy array, or a list.
        prompts: one string for all images, or a list of as many strings as images.

    Output: (B,) scores; higher is better. Gradients flow into `images` if it is a float tensor that requires grad, or
    a list that contains one. Otherwise no graph is kept.

    Attributes:
        is_differentiable: True; the score is differentiable with respect to the pixels.
        higher_is_better: True.
        score_range: bounds of the score for any weights. A fitted head scores near [0, 1]; the score of an untrained
            head is a cosine.

    Example:
        >>> reward = HyperAlignReward.from_backbone("ViT-B-16", pretrained="openai")
        >>> reward(torch.rand(2, 3, 64, 64), "a red ring").shape
        torch.Size([2])
    """

    is_differentiable: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = True
    score_range: ClassVar[tuple[float, float]] = (-_MAX_SCORE, _MAX_SCORE)

    def __init__(self, config: HyperAlignConfig, head: HyperAlign, backbone: Backbone):
        super().__init__()
        if config.embed_dim != backbone.embed_dim:
            raise ValueError(
                f"Expected a backbone with features of width {config.embed_dim} but {backbone.name!r} has "
                f"{backbone.embed_dim}; this head was trained for another backbone"
            )
        self.config = config
        self.backbone = backbone
        self.head = head
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        **hub_options: Any,
    ) -> "HyperAlignReward":
        """Load a saved model. Every weight must fit, and pickled files are never loaded.

        Args:
            path_or_hub_id: a folder written by `save_pretrained`, or a hub repository ORG/NAME.
            device: device of the model; None leaves it on the CPU.
            dtype: dtype of the backbone. The small head stays float32 (float64 with dtype=torch.float64).
            hub_options: revision, token, cache_dir, local_files_only for `huggingface_hub.snapshot_download`.

        Raises:
            FileNotFoundError: the folder or one of its files does not exist.
            ValueError, TypeError: a file is damaged, a config key is unknown or has the wrong type, or the weights do
                not fit.

        Example:
            >>> reward = HyperAlignReward.from_pretrained("runs/hyperalign", device="cuda")  # doctest: +SKIP
        """
        folder, from_hub = saving.fetch(path_or_hub_id, **hub_options)
        config = saving.read_config(folder)
        if from_hub:
            saving.refuse_outside(config.backbone, folder)
        head = saving.load_head(config, folder)
        backbone = Backbone(resolve_backbone(config.backbone, folder), config.pretrained)
        return cls(config, head, backbone)._placed(device, dtype)

    @classmethod
    def from_backbone(
        cls,
        name: str,
        pretrained: str | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        **config_overrides: Any,
    ) -> "HyperAlignReward":
        """Put an untrained head on an open_clip backbone. Its score is the backbone's cosine; a warning says so once.

        Args:
            name: open_clip model name, hf-hub:ORG/REPO or local-dir:FOLDER.
            pretrained: pretrained tag or weights file; only for an open_clip model name.
            device: device of the model; None leaves it on the CPU.
            dtype: dtype of the backbone, as in `from_pretrained`.
            config_overrides: other fields of `HyperAlignConfig`.
        """
        name = resolve_backbone(name, Path.cwd())
        backbone = Backbone(name, pretrained)
        config = HyperAlignConfig(
            backbone=name, pretrained=pretrained, embed_dim=backbone.embed_dim, **config_overrides
        )
        reward = cls(config, HyperAlign(config), backbone)
        reward._calibrate_roughly()
        _warn_untrained()
        return reward._placed(device, dtype)

    def _placed(self, device, dtype) -> "HyperAlignReward":
        if dtype is not None:
            if not dtype.is_floating_point:
                raise TypeError(f"Expected a floating dtype but got {dtype}")
            self.backbone.to(dtype=dtype)
            self.head.to(dtype=torch.promote_types(dtype, torch.float32))
        return self.to(device) if device is not None else self

    @torch.no_grad()
    def _calibrate_roughly(self):
        """Set the mean norms from a few prompts and noise images. A fit replaces them with those of its data."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(len(_CALIBRATION_PROMPTS), 3, 8, 8, generator=generator)
        images = torch.nn.functional.interpolate(coarse, size=self.backbone.transform.size, mode="bilinear")
        self.head.calibrate(
            self.backbone.encode_images(images), self.backbone.encode_prompts(list(_CALIBRATION_PROMPTS))
        )

    def forward(self, images: Any, prompts: str | Sequence[str]) -> Tensor:
        """Scores (B,) of image-prompt pairs; see the class for the inputs.

        Raises:
            TypeError, ValueError: images or prompts cannot be used; the message names what was expected and what was
                given.
        """
        return self.explain(images, prompts).score

    def explain(self, images: Any, prompts: str | Sequence[str]) -> HyperAlignOutput:
        """Score, cosine, distance, angles and modulation of each pair, each (B,). Inputs and errors as in a call."""
        tensors = to_tensors(images, keep_bytes=True)
        prompts = _checked_prompts(prompts)
        if not prompts.one_for_all and len(prompts) != len(tensors):
            raise ValueError(
                f"Expected one prompt for each of the {len(tensors)} images, or a single string for all, but got "
                f"{len(prompts)} prompts"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and _requires_grad(tensors)):
            texts, owners = self._portions(prompts)
            text, image = self.backbone.encode_prompts(texts), self.backbone.encode_images(tensors)
            if len(texts) == len(prompts):
                return self.head(image, text.expand(len(tensors), -1))
            rows, columns = pairs_of_portions(owners, len(tensors), prompts.one_for_all)
            return pool_portions(self.head(image[rows], text[columns]), rows, len(tensors))

    def score_matrix(self, images: Any, prompts: str | Sequence[str]) -> Tensor:
        """Scores of every image with every prompt, (N_images, N_prompts). Each input is encoded only once."""
        tensors = to_tensors(images, keep_bytes=True)
        prompts = _checked_prompts(prompts)
        with torch.set_grad_enabled(torch.is_grad_enabled() and _requires_grad(tensors)):
            texts, owners = self._portions(prompts)
            u_image, u_text = self.head.adapt(
                self.backbone.encode_images(tensors), self.backbone.encode_prompts(texts)
            )
            rows = max(1, _MATRIX_CHUNK // u_text.numel())
            chunks = u_image.unsqueeze(1).split(rows)
            scores = torch.cat([self.head.score_adapted(chunk, u_text.unsqueeze(0)).score for chunk in chunks])
            return scores if len(texts) == len(prompts) else pool_columns(scores, owners, len(prompts))

    def _portions(self, prompts: Sequence[str]) -> tuple[list[str], list[int]]:
        """What the text tower reads, and which prompt each text is of: portions of the long ones, where it pools."""
        if self.config.long_prompts == "cut":
            return list(prompts), list(range(len(prompts)))
        cut = {prompt: portions(prompt, self.backbone.tokenizer.fits) for prompt in dict.fromkeys(prompts)}
        texts = [text for prompt in prompts for text in cut[prompt]]
        return texts, [i for i, prompt in enumerate(prompts) for _ in cut[prompt]]

    def save_pretrained(self, folder: str | os.PathLike, copy_backbone: bool = True):
        """Write config.json and model.safetensors (head and adapter only), which `from_pretrained` reads.

        A backbone from open_clip or the hub is saved by its name. A local or fine-tuned backbone is copied into
        `backbone/`, so that the folder still loads after it is moved. With copy_backbone=False, the config instead
        names a local backbone by its path relative to `folder`.

        Raises:
            ValueError: `folder` is a file, or lies inside the backbone's own folder.
        """
        if os.path.isfile(folder):
            raise ValueError(f"Expected a folder to save to but {os.fspath(folder)!r} is a file")
        saving.write_model(folder, self.config, self.head.state_dict(), self.backbone, copy_backbone)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload HyperAlign reward model",
    ) -> str:
        """Save the model to a temporary folder and upload it to the hub. Returns the URL of the commit."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            # not self.config, which may name a path on this machine
            card = _model_card(repo_id, saving.read_config(Path(folder)))
            Path(folder, "README.md").write_text(card, encoding="utf-8")
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
            )
        return commit.commit_url

    def ddpo(self) -> Callable[[Any, Sequence[str], Sequence[Any]], tuple[Tensor, dict]]:
        """This reward as a TRL reward function: fn(images, prompts, metadata) -> (rewards (B,), {})."""
        from reward.trl_adapters import ddpo_reward

        return ddpo_reward(self)


class _Prompts(list):
    """A list of prompts, and whether they were given as one string for all images."""

    one_for_all = False


def _checked_prompts(prompts: str | Sequence[str]) -> _Prompts:
    if isinstance(prompts, str):
        checked = _Prompts([prompts])
        checked.one_for_all = True
        return checked
    if not hasattr(prompts, "__iter__"):
        raise TypeError(f"Expected prompts to be a string or a list of strings but got {type(prompts).__name__}")
    checked = _Prompts(prompts)
    for i, prompt in enumerate(checked):
        if not isinstance(prompt, str):
            raise TypeError(f"Expected every prompt to be a string but prompt {i} is {quoted(prompt)}")
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Expected every prompt in Unicode but prompt {i} has half a surrogate pair: {ascii(prompt[:80])}; "
                "fix the code that read it"
            ) from error
    if not checked:
        raise ValueError("Expected at least one prompt but got an empty list")
    return checked


def _requires_grad(tensors: Tensor | list[Tensor]) -> bool:
    return any(t.requires_grad for t in tensors) if isinstance(tensors, list) else tensors.requires_grad


_warned_untrained = False


def _warn_untrained():
    global _warned_untrained
    if not _warned_untrained:
        _warned_untrained = True
        warnings.warn(
            "This HyperAlign head is untrained: its score equals the backbone's cosine. Fit it with reward.fit_head, "
            "or load a trained one with HyperAlignReward.from_pretrained. This warning is shown once.",
            stacklevel=3,
        )


def _model_card(repo_id: str, config: HyperAlignConfig) -> str:
    fields = "\n".join(f"| {f.name} | `{getattr(config, f.name)}` |" for f in dataclasses.fields(config))
    return (
        "---\nlibrary_name: hyperalign\ntags: [reward-model, text-image-alignment]\n---\n\n"
        f"# {repo_id}\n\nA HyperAlign text-image alignment reward.\n\n"
        f'```python\nfrom reward import HyperAlignReward\n\nreward = HyperAlignReward.from_pretrained("{repo_id}")\n'
        "scores = reward(images, prompts)\n```\n\n"
        f"| field | value |\n|---|---|\n{fields}\n"
    )
