"""Our own contract: POST /score, JSON -> scores, and where asked for an explanation of each with its phrase scores."""

import json
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from reward.serving.asked import Asked, checked, from_base64, read_json
from reward.serving.limits import Limits, Refused

PATH = "/score"
MEDIA_TYPE = "application/json"
REQUEST_SCHEMA = {
    "type": "object",
    "required": ["images", "prompts"],
    "properties": {
        "images": {
            "type": "array", "items": {"type": "string", "contentEncoding": "base64"},
            "description": "PNG, JPEG or WebP files, each in base64. URLs are never fetched.",
        },
        "prompts": {
            "description": "One for each picture, or one string for all.",
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "explain": {
            "type": "boolean", "default": False,
            "description": "Also say why each picture scores as it does; costs as much as some fifty scores.",
        },
    },
}  # fmt: skip
_NAMES = {"images", "prompts", "explain"}


def read(body: bytes, limits: Limits) -> Asked:
    """Pictures and prompts of a body.

    Raises:
        Refused: 4xx.
    """
    value = read_json(body)
    if unknown := sorted(set(value) - _NAMES):
        raise Refused(422, f"Expected the fields {', '.join(sorted(_NAMES))} but got {unknown[0][:80]!r} too.")
    explain = value.get("explain", False)
    if not isinstance(explain, bool):
        raise Refused(422, f"Expected 'explain' to be true or false but got a {type(explain).__name__}.")
    return checked(from_base64(value.get("images"), "images"), value.get("prompts"), limits, explain)


def write(scores: Sequence[float], explanations: Sequence[dict[str, Any]] | None = None) -> bytes:
    """The answer's body."""
    answer: dict[str, Any] = {"scores": list(scores)}
    if explanations is not None:
        answer["explanations"] = list(explanations)
    return json.dumps(answer).encode()


def explanation(reward: Any, picture: Tensor, prompt: str) -> dict[str, Any]:
    """`reward.explanation.explain` of one pair as JSON data: sentences, geometry (angles in radians), phrases."""
    from reward.explanation.explain import explain

    found = explain(reward, picture, prompt)
    phrases = [
        {
            "text": phrase.text, "kind": phrase.kind, "margin": phrase.margin, "alone": phrase.alone,
            "without": phrase.without, "best_score": phrase.best_score,
            "best_swap": phrase.best_swap and {"old": phrase.best_swap.old, "new": phrase.best_swap.new},
        }
        for phrase in found.phrases.phrases
    ]  # fmt: skip
    return {
        "score": float(found.output.score),
        "sentences": list(found.sentences),
        "geometry": {name: float(value) for name, value in found.output._asdict().items() if name != "score"},
        "phrases": phrases,
        "worst_phrase": found.worst_phrase,
    }
