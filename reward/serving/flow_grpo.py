"""The contract of flow_grpo and VeRL-Omni: POST /, a pickle of {"images": [JPEG bytes], "prompts": [...]}.

The answer is a pickle of {"scores": [...]}; some of flow_grpo's clients read `outputs` instead, so it holds both. The
request is read by `reward.serving.plain_pickle`, which knows no class.
"""

from collections.abc import Sequence

from reward.serving import plain_pickle
from reward.serving.asked import Asked, checked
from reward.serving.limits import Limits, Refused

PATH = "/"
MEDIA_TYPE = "application/octet-stream"


def read(body: bytes, limits: Limits) -> Asked:
    """Pictures and prompts of a body.

    Raises:
        Refused: 4xx.
    """
    try:
        value = plain_pickle.loads(body)
    except plain_pickle.NotPlainError as error:
        raise Refused(400, str(error)) from None
    if not isinstance(value, dict):
        raise Refused(422, f"Expected a pickled dict but got a {type(value).__name__}.")
    pictures = value.get("images")
    if not isinstance(pictures, (list, tuple)) or not all(isinstance(picture, bytes) for picture in pictures):
        raise Refused(422, "Expected 'images' to be a list of encoded pictures, each bytes, but it is not.")
    return checked(pictures, value.get("prompts"), limits)


def write(scores: Sequence[float]) -> bytes:
    """The answer's body."""
    return plain_pickle.dumps({"scores": list(scores), "outputs": list(scores)})
