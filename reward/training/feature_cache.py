"""Backbone features of a data set, computed once and kept on disk."""

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

# A run that is killed loses no more than this.
SAVE_EVERY_SECONDS = 60
# Part of the file's name: a change of how pictures are read or resized needs another number.
_VERSION = 2
_KEY_BYTES = 32


class UnreadablePictures(ValueError):
    """Pictures of a data set that are missing or cannot be decoded; features of the others are kept.

    Args:
        rows: their row numbers, ascending.
        reasons: one for each, with the path.
    """

    def __init__(self, rows: Sequence[int], reasons: Sequence[str]):
        self.rows, self.reasons = tuple(rows), tuple(reasons)
        shown = "\n  ".join(self.reasons[:10]) + ("\n  ..." if len(self.reasons) > 10 else "")
        super().__init__(
            f"Expected readable pictures but {len(self.rows)} are not; fetch them again, or leave these rows out "
            f"(skip_bad, --skip-bad):\n  {shown}"
        )


def backbone_features(
    backbone: Backbone,
    images: Sequence[str | os.PathLike],
    prompts: Sequence[str],
    cache_dir: str | os.PathLike | None,
    batch_size: int = 32,
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    """Un-normalised features of pictures and prompts; each distinct picture and prompt is encoded once.

    One file for a backbone (its weights, transform and dtype, not its name), in it one entry for a picture's content
    and one for a prompt's tokens: renamed pictures are found again, changed ones are not mistaken for what they were.

    Args:
        images: paths, N.
        prompts: N, or any number.
        cache_dir: folder of the cache files, made if need be; None: nothing is read or written.
        batch_size: pictures or prompts at a time.
        progress: show a bar where there is something to compute.

    Returns:
        image features (N, D) and text features (len(prompts), D), float32 on the CPU, without gradient.

    Raises:
        UnreadablePictures: at the end, when all others are in the cache.
        ValueError: batch_size below 1, features that are not finite.
    """
    if batch_size < 1:
        raise ValueError(f"Expected batch_size of at least 1 but got {batch_size}")
    cache = _Cache(None if cache_dir is None else _file(Path(cache_dir), backbone), backbone.embed_dim)
    paths = [Path(image) for image in images]
    bad: dict[Path, str] = {}
    image_keys = {path: key for path in dict.fromkeys(paths) if (key := _content_key(path, bad))}
    text_keys = _token_keys(backbone, list(dict.fromkeys(prompts)))

    def encode_paths(batch: list[Path]) -> tuple[list[Path], Tensor | None]:
        readable, pictures = [], []
        for path in batch:
            try:
                pictures.append(to_tensors(path, keep_bytes=True)[0])
                readable.append(path)
            except ValueError as error:
                bad[path] = str(error)
        return readable, backbone.encode_images(to_tensors(pictures, keep_bytes=True)) if pictures else None

    # A caller's autocast would leave its rounding in a cache that later callers share.
    with torch.no_grad(), torch.autocast(backbone.device.type, enabled=False):
        try:
            cache.fill("image", image_keys, encode_paths, batch_size, progress)
            cache.fill("text", text_keys, lambda batch: (batch, backbone.encode_prompts(batch)), batch_size, progress)
        finally:
            cache.save()
    if bad:
        # of files with the same content only one was tried
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


def _content_key(path: Path, bad: dict[Path, str]) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    # ValueError: a NUL, or half a surrogate pair, in its name
    except (OSError, ValueError) as error:
        bad[path] = f"Expected an image file but could not read {shortened(path)}: {shortened(error)}"
        return None


def _token_keys(backbone: Backbone, prompts: list[str]) -> dict[str, bytes]:
    """Tokens, not letters: with another tokenizer the same weights see another text."""
    if not prompts:
        return {}
    tokens = backbone.tokenizer.open_clip_tokenizer(prompts).to(torch.int64)
    # the prompt too: two that are cut alike may differ in what `Tokenizer` then puts at the end
    return {
        prompt: hashlib.sha256(row.numpy().tobytes() + prompt.encode()).digest()
        for prompt, row in zip(prompts, tokens, strict=True)
    }


def _file(folder: Path, backbone: Backbone) -> Path:
    """Named for people by the backbone's name, told apart by what its features depend on."""
    digest = hashlib.sha256()
    settings = [_VERSION, backbone.model_config, backbone.preprocess_config, str(backbone.dtype)]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(backbone.model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", Path(backbone.name).name).strip("-.")
    return folder / f"{readable or 'backbone'}-{digest.hexdigest()[:16]}.safetensors"


class _Cache:
    """Features by key, in memory and (with a path) in one file that is always whole."""

    def __init__(self, path: Path | None, dim: int):
        self.path, self.dim = path, dim
        self.features = self._read()
        self.unsaved = False
        self.saved_at = time.monotonic()

    def fill(self, kind: str, keys: dict, encode: Callable, batch_size: int, progress: bool) -> None:
        """Compute what is missing; `encode` takes a batch of names and gives those that it could encode, (B, D)."""
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
        # another process may have added its own meanwhile
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
            # caches of version 0.1.0 have none
            if metadata and metadata["digest"] != state_digest("", tensors):
                raise ValueError("its contents are not what was written")
            return {kind: self._rows(tensors[f"{kind}_keys"], tensors[f"{kind}_features"]) for kind in empty}
        except (SafetensorError, KeyError, ValueError) as error:
            if not told:
                warnings.warn(f"{self.path} is no feature cache ({error}); it is written anew", stacklevel=4)
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
