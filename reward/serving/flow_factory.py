"""Flow-Factory's contract: POST /compute, JSON with pictures in base64 -> {"rewards": [...]}.

Its client sends `prompt` and `image`, its example server reads `prompts` and `images`: both are understood. Videos and
condition images are not looked at.
"""

import json
from collections.abc import Sequence

from reward.serving.asked import Asked, checked, from_base64, read_json
from reward.serving.limits import Limits, Refused

PATH = "/compute"
MEDIA_TYPE = "application/json"


def read(body: bytes, limits: Limits) -> Asked:
    """Pictures and prompts of a body.

    Raises:
        Refused: 4xx.
    """
    value = read_json(body)
    pictures = value.get("image") or value.get("images")
    if not pictures:
        raise Refused(422, "Expected pictures in 'image' but got none; a reward for pictures cannot look at videos.")
    prompts = value.get("prompt") or value.get("prompts")
    return checked(from_base64(pictures, "image"), prompts, limits)


def write(scores: Sequence[float]) -> bytes:
    """The answer's body."""
    return json.dumps({"rewards": list(scores)}).encode()
