"""What a request asks, whatever its contract: pictures as files, one prompt each; checked, not yet decoded."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reward.images.reading import picture_size, read_encoded
from reward.serving.limits import Limits, Refused

# What clients send; the fewer decoders a stranger can reach, the better.
FORMATS = ("JPEG", "PNG", "WEBP")
# Of lists, objects and values: real requests have a few a picture, and each costs memory far beyond its bytes.
_MOST_JSON_PARTS = 200_000


@dataclass(frozen=True)
class Asked:
    """Pictures and prompts of one request.

    Attributes:
        pictures: N files' bytes.
        prompts: N.
        explain: whether to say why each scores as it does.
    """

    pictures: tuple[bytes, ...]
    prompts: tuple[str, ...]
    explain: bool = False


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        Refused: 400 for anything else; 413 for one made of too many parts.
    """
    parts = sum(map(body.count, (b",", b"[", b"{")))
    if parts > _MOST_JSON_PARTS:
        raise Refused(413, f"Expected at most {_MOST_JSON_PARTS} commas, lists and objects but got {parts}.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"Expected a JSON object but got something else: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Refused(400, f"Expected a JSON object but got a {type(value).__name__}.")
    return value


def from_base64(values: Any, name: str) -> list[bytes]:
    """A list of base64 strings, each perhaps after `data:image/png;base64,`, as bytes.

    Raises:
        Refused: 422.
    """
    if not isinstance(values, list):
        raise Refused(422, f"Expected {name!r} to be a list of base64 strings but got {_kind(values)}.")
    decoded = []
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise Refused(422, f"Expected {name}[{index}] to be a base64 string but got {_kind(value)}.")
        if value.startswith("data:"):
            value = value.partition(",")[2]
        try:
            decoded.append(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            hint = " URLs are not fetched; send the picture itself." if "://" in value[:20] else ""
            raise Refused(422, f"Expected {name}[{index}] to be base64 but it is not.{hint}") from None
    return decoded


def checked(pictures: Sequence[Any], prompts: Any, limits: Limits, explain: bool = False) -> Asked:
    """Pictures and their prompts, one for all or one each, within the limits.

    Raises:
        Refused: 413 for too much, 422 for what does not fit together.
    """
    prompts = [prompts] * len(pictures) if isinstance(prompts, str) else prompts
    if not isinstance(prompts, (list, tuple)) or not all(isinstance(prompt, str) for prompt in prompts):
        raise Refused(422, f"Expected prompts to be strings, one a picture, but got {_kind(prompts)}.")
    if not pictures or len(pictures) != len(prompts):
        raise Refused(
            422, f"Expected as many prompts as pictures, at least one, but got {len(pictures)} pictures and "
            f"{len(prompts)} prompts.",
        )  # fmt: skip
    most = limits.explained_pictures if explain else limits.pictures
    if len(pictures) > most:
        raise Refused(413, f"Expected at most {most} pictures in a request but got {len(pictures)}; send several.")
    for index, prompt in enumerate(prompts):
        if len(prompt) > limits.prompt_characters:
            raise Refused(
                413, f"Expected prompts of at most {limits.prompt_characters} characters but prompt {index} has "
                f"{len(prompt)}.",
            )  # fmt: skip
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise Refused(422, f"Expected every prompt in Unicode but prompt {index} has half a surrogate pair.")
        if explain and not prompt.strip():
            raise Refused(422, f"Expected a prompt with a word in it to explain but prompt {index} has none.")
    return Asked(tuple(pictures), tuple(prompts), explain)


def count_pixels(asked: Asked, limits: Limits) -> int:
    """Pixels of all pictures together, as their headers state; nothing is unpacked.

    Raises:
        Refused: 413 for too many, 422 for what is no picture.
    """
    pixels = []
    for index, data in enumerate(asked.pictures):
        try:
            width, height = picture_size(data, FORMATS)
        except ValueError as error:
            raise Refused(422, f"Picture {index}: {error}") from None
        if width * height > limits.pixels:
            raise Refused(413, f"Expected at most {limits.pixels} pixels but picture {index} is {width} x {height}.")
        pixels.append(width * height)
    if sum(pixels) > limits.request_pixels:
        raise Refused(413, f"Expected at most {limits.request_pixels} pixels in a request but got {sum(pixels)}.")
    return sum(pixels)


def decode(asked: Asked) -> list[Tensor]:
    """The pictures as tensors (3,H,W), uint8 where they are opaque 8-bit ones; as `HyperAlignReward` would read them.

    Raises:
        Refused: 422 for what is no picture.
    """
    tensors = []
    for index, data in enumerate(asked.pictures):
        try:
            tensors.append(read_encoded(data, FORMATS, keep_bytes=True))
        except (ValueError, TypeError) as error:
            raise Refused(422, f"Picture {index}: {error}") from None
    return tensors


def _kind(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        others = sorted({type(item).__name__ for item in value[:1000]})
        return f"a {type(value).__name__} of {', '.join(others) or 'nothing'}"
    return "nothing" if value is None else f"a {type(value).__name__}"
