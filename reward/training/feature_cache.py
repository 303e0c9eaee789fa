"""Backbone features of a data set, computed once and cached on disk."""

import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from reward.backbone.towers import Backbone
from reward.files.digests import state_digest
from reward.files.quoting import shortened
from reward.files.writing import write_whole
from reward.images.preprocess import to_tensors
from reward.tables.rows import StoredPicture

# A killed run loses at most the features of this time.
SAVE_EVERY_SECONDS = 60
# Enters the digest in the file name. Increase it when images are read or resized in another way.
_VERSION = 2
_KEY_BYTES = 32


class UnreadablePictures(ValueError):
    """Some images of a data set are missing or cannot be decoded. The features of the others are kept in the cache.

    Args:
        rows: row numbers of these images, ascending.
        reasons: one message per row, with the path.
    """

    def __init__(self, rows: Sequence[int], reasons: Sequence[str]):
        self.rows, self.reasons = tuple(rows), tuple(reasons)
        shown = "\n  ".join(self.reasons[:10]) + ("\n  ..." if len(self.reasons) > 10 else "")
        super().__init__(
            f"Expected readable pictures but {len(self.rows)} are not; download them again, or skip these rows "
            f"(skip_bad, --skip-bad):\n  {shown}"
        )


def backbone_features(
    backbone: Backbone,
    images: Sequence[str | os.PathLike | StoredPicture],
    prompts: Sequence[str],
    cache_dir: str | os.PathLike | None,
    batch_size: int = 32,
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    """Un-normalised features of images and prompts. Each distinct image and prompt is encoded once.

    The cache has one file per backbone, with a digest of its weights, transform and dtype in the file name. Entries are
    found by the content of an image or the tokens of a prompt, so a renamed image is found again and a changed image is
    encoded again.

    Args:
        images: paths, or pictures inside a larger file, N.
        prompts: N, or any number.
        cache_dir: folder of the cache files, made if need be; None: nothing is read or written.
        batch_size: pictures or prompts at a time.
        progress: show a bar where there is something to compute.

    Returns:
        image features (N, D) and text features (len(prompts), D), float32 on the CPU, without gradient.

    Raises:
        UnreadablePictures: some images cannot be read; raised after all others are in the cache.
        ValueError: batch_size is below 1, or a feature is not finite.

    Example:
        >>> image, text = backbone_features(backbone, ["ring.png"], ["a red ring"], "cache")  # doctest: +SKIP
    """
    if batch_size < 1:
        raise ValueError(f"Expected batch_size of at least 1 but got {batch_size}")
    cache = _Cache(None if cache_dir is None else _file(Path(cache_dir), backbone), backbone.embed_dim)
    paths = [image if isinstance(image, StoredPicture) else Path(image) for image in images]
    bad: dict[Path | StoredPicture, str] = {}
    image_keys = {path: key for path in dict.fromkeys(paths) if (key := _content_key(path, bad))}
    text_keys = _token_keys(backbone, list(dict.fromkeys(prompts)))

    def encode_paths(batch: list) -> tuple[list, Tensor | None]:
        readable, pictures = [], []
        for path in batch:
            try:
                pictures.append(to_tensors(path, keep_bytes=True)[0])
                readable.append(path)
            except ValueError as error:
                bad[path] = str(error)
        return readable, backbone.encode_images(to_tensors(pictures, keep_bytes=True)) if pictures else None

    # autocast off, because its rounding would stay in the cache that later callers share
    with torch.no_grad(), torch.autocast(backbone.device.type, enabled=False):
        try:
            cache.fill("image", image_keys, encode_paths, batch_size, progress)
            cache.fill("text", text_keys, lambda batch: (batch, backbone.encode_prompts(batch)), batch_size, progress)
        finally:
            cache.save()
    if bad:
        # only one of several files with the same content was tried
        reasons = {image_keys[path]: reason for path, reason in bad.items() if path in image_keys}
        for path, key in image_keys.items():
            if key in reasons:
                bad.setdefault(path, f"{path} is the same file: {reasons[key]}")
        rows = [row for row, path in enumerate(paths) if path in bad]
        raise UnreadablePictures(rows, [bad[paths[row]] for row in rows])
    return (
        cache.stack("image", [image_keys[path] for path in paths]),
        cache.stack("text", [text_keys[prompt] for prompt in prompts]),
    )


def _content_key(path: Path | StoredPicture, bad: dict[Path | StoredPicture, str]) -> bytes | None:
    try:
        if isinstance(path, StoredPicture):
            return hashlib.sha256(path.read()).digest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    # ValueError: the name contains a NUL or half a surrogate pair
    except (OSError, ValueError) as error:
        bad[path] = f"Expected an image file but could not read {shortened(path)}: {shortened(error)}"
        return None


def _token_keys(backbone: Backbone, prompts: list[str]) -> dict[str, bytes]:
    """A key for each prompt. It contains the tokens, because another tokenizer gives the same weights another input."""
    if not prompts:
        return {}
    tokens = backbone.tokenizer.open_clip_tokenizer(prompts).to(torch.int64)
    # It also contains the prompt: `Tokenizer` may end two prompts differently that are cut to the same tokens.
    return {
        prompt: hashlib.sha256(row.numpy().tobytes() + prompt.encode()).digest()
        for prompt, row in zip(prompts, tokens, strict=True)
    }


def _file(folder: Path, backbone: Backbone) -> Path:
    """The cache file: the backbone's name for readers, and a digest of everything that its features depend on."""
    digest = hashlib.sha256()
    settings = [_VERSION, backbone.model_config, backbone.preprocess_config, str(backbone.dtype)]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(backbone.model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", Path(backbone.name).name).strip("-.")
    return folder / f"{readable or 'backbone'}-{digest.hexdigest()[:16]}.safetensors"


class _Cache:
    """Features by key, in memory and, with a path, in one file that is always complete."""

    def __init__(self, path: Path | None, dim: int):
        self.path, self.dim = path, dim
        self.features = self._read()
        self.unsaved = False
        self.saved_at = time.monotonic()

    def fill(self, kind: str, keys: dict, encode: Callable, batch_size: int, progress: bool) -> None:
        """Compute missing features. `encode` maps names to the names it could encode and their features (B, D)."""
        known = self.features[kind]
        # two files with the same content are one picture
        first: dict[bytes, Any] = {}
        for name, key in keys.items():
            if key not in known:
                first.setdefault(key, name)
        missing = list(first.values())
        starts = range(0, len(missing), batch_size)
        for start in tqdm(starts, desc=f"{kind} features", disable=not (progress and missing)):
            names, features = encode(missing[start : start + batch_size])
            if features is None:
                continue
            for name, row in zip(names, features.float().cpu(), strict=True):
                if not row.isfinite().all():
                    raise ValueError(
                        f"Expected finite features but got NaN or Inf for {name}; float16 overflows in some towers: "
                        "load the backbone in float32"
                    )
                known[keys[name]] = row.clone()
            self.unsaved = True
            if time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS:
                self.save()

    def stack(self, kind: str, keys: Sequence[bytes]) -> Tensor:
        return torch.stack([self.features[kind][key] for key in keys]) if keys else torch.empty(0, self.dim)

    def save(self) -> None:
        if self.path is None or not self.unsaved:
            return
        # another process may have added features in the meantime
        for kind, others in self._read(told=True).items():
            for key, row in others.items():
                self.features[kind].setdefault(key, row)
        tensors = {}
        for kind, rows in self.features.items():
            tensors[f"{kind}_keys"] = _joined(list(rows))
            tensors[f"{kind}_features"] = self.stack(kind, list(rows))
        metadata = {"digest": state_digest("", tensors)}
        write_whole(self.path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
        self.unsaved, self.saved_at = False, time.monotonic()

    def _read(self, told: bool = False) -> dict[str, dict[bytes, Tensor]]:
        empty: dict[str, dict[bytes, Tensor]] = {"image": {}, "text": {}}
        if self.path is None or not self.path.exists():
            return empty
        try:
            with safe_open(self.path, framework="pt") as file:
                tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
            # caches of version 0.1.0 have no digest
            if metadata and metadata["digest"] != state_digest("", tensors):
                raise ValueError("its contents are not what was written")
            return {kind: self._rows(tensors[f"{kind}_keys"], tensors[f"{kind}_features"]) for kind in empty}
        except (SafetensorError, KeyError, ValueError) as error:
            if not told:
                warnings.warn(
                    f"{self.path} is not a valid feature cache ({error}); it will be rewritten", stacklevel=4
                )
            return empty

    def _rows(self, keys: Tensor, features: Tensor) -> dict[bytes, Tensor]:
        if keys.shape[1:] != (_KEY_BYTES,) or features.shape != (len(keys), self.dim):
            raise ValueError(f"shapes {tuple(keys.shape)} and {tuple(features.shape)}")
        return dict(zip(_split(keys), features, strict=True))


def _joined(keys: list[bytes]) -> Tensor:
    # frombuffer refuses an empty buffer
    flat = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8) if keys else torch.empty(0).byte()
    return flat.view(-1, _KEY_BYTES)


def _split(keys: Tensor) -> Iterable[bytes]:
    data = keys.contiguous().numpy().tobytes()
    return (data[i : i + _KEY_BYTES] for i in range(0, len(data), _KEY_BYTES))
