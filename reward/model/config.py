"""The configuration of a HyperAlign model: a frozen, validated dataclass that is saved as JSON without loss."""

import dataclasses
import difflib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from reward.files.quoting import quoted

Modulation = Literal["none", "cosine", "radii", "geometry"]
Entailment = Literal["paper", "weighted", "two_sided", "compositional"]
Radius = Literal["norm", "learned"]
LongPrompts = Literal["cut", "pool"]

FORMAT_VERSION = 1


def _help(text: str, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class HyperAlignConfig:
    """Configuration of a HyperAlign model. Every ablation of the model is a value of some field.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of range. `from_dict` also raises it for an unknown or missing key.

    Example:
        >>> HyperAlignConfig(embed_dim=512, modulation="none").to_dict()["modulation"]
        'none'
    """

    embed_dim: int = _help("width of the backbone's features", 512)
    backbone: str = _help("open_clip name, hf-hub:ORG/REPO or local-dir:FOLDER (relative to this file)", "ViT-B-16")
    pretrained: str | None = _help("open_clip pretrained tag or weights file; only with a plain name", None)

    adapter: bool = _help("gated residual adapter on the features; false: the backbone's features as they are", True)
    adapter_hidden: int = _help("hidden width of the adapter", 256)
    modulation: Modulation = _help("input of M: nothing, the cosine, the cosine and both radii, or Z", "geometry")
    modulation_hidden: int = _help("hidden width of M", 32)

    curvature: float = _help("c > 0; the space has curvature -c; redundant with the learned scales", 1.0)
    min_radius: float = _help("k; a larger k opens the entailment cones wider", 0.1)
    max_scale: float = _help("a_max, the largest radius that the scale can give a feature of mean norm", 2.0)
    text_radius: float = _help("rho of a text of mean norm before training", 0.3)
    image_radius: float = _help("rho of an image of mean norm before training", 1.0)
    radius_low: float = _help("smooth lower bound of rho", 0.15)
    radius_high: float = _help("smooth upper bound of rho", 2.5)
    radius: Radius = _help("what sets rho: the feature's norm, or also a learned direction of the feature", "norm")
    radius_spread: float = _help("standard deviation that calibration gives to log |u|; 0 leaves it as it is", 0.3)

    long_prompts: LongPrompts = _help("beyond the backbone's context: cut, or score in portions and pool", "cut")

    lambda_rank: float = _help("weight of the ranking loss", 0.1)
    lambda_ent: float = _help("weight of the entailment loss", 0.05)
    entailment: Entailment | None = _help("form of the entailment loss; null switches it off", "two_sided")
    contraction: float = _help("how much the best human score (1) narrows a cone, as a share", 0.8)

    def __post_init__(self):
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, check_type(f.name, getattr(self, f.name), _HINTS[f.name]))
        for name in ("embed_dim", "adapter_hidden", "modulation_hidden"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("curvature", "min_radius", "max_scale", "radius_low"):
            self._require(getattr(self, name) > 0, name, "positive")
        for name in ("lambda_rank", "lambda_ent", "radius_spread"):
            self._require(getattr(self, name) >= 0, name, "zero or positive")
        self._require(0 <= self.contraction < 1, "contraction", "in [0, 1)")
        self._require(self.radius_high > self.radius_low, "radius_high", f"above radius_low = {self.radius_low}")
        for name in ("text_radius", "image_radius"):
            value = getattr(self, name)
            self._require(0 < value < self.max_scale, name, f"in (0, max_scale = {self.max_scale})")
            self._require(
                self.radius_low < value < self.radius_high, name, f"in ({self.radius_low}, {self.radius_high})"
            )
        self._require(bool(self.backbone.strip()), "backbone", "a name")
        if self.pretrained is not None and self.backbone.startswith(("local-dir:", "hf-hub:")):
            raise ValueError(
                f"Expected pretrained=None with backbone {quoted(self.backbone)}, whose folder has its own weights, "
                f"but got pretrained={quoted(self.pretrained)}"
            )

    def _require(self, holds: bool, name: str, expected: str):
        if not holds:
            raise ValueError(f"Expected {name} to be {expected} but got {quoted(getattr(self, name))}")

    def to_dict(self) -> dict[str, Any]:
        """All fields and `format_version`."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        """The JSON text of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "HyperAlignConfig":
        """Strict inverse of `to_dict`.

        Missing keys take their defaults, except `embed_dim` and `backbone`: weights cannot be read without them.

        Raises:
            TypeError: `values` is not a dict.
            ValueError: an unknown key, another format version, or `embed_dim` or `backbone` is missing.
        """
        if not isinstance(values, dict):
            raise TypeError(f"Expected a JSON object with HyperAlignConfig's fields but got {type(values).__name__}")
        values = dict(values)
        version = values.pop("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ValueError(
                f"Expected format_version {FORMAT_VERSION} but got {quoted(version)}; "
                "this model was saved by another version of hyperalign; install that version"
            )
        for key in values:
            if key not in _HINTS:
                close = difflib.get_close_matches(key, _HINTS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(_HINTS)}"
                raise ValueError(f"Unknown key {quoted(key)} in a HyperAlign config; {hint}")
        for key in ("embed_dim", "backbone"):
            if key not in values:
                raise ValueError(f"Expected a HyperAlign config to have the key {quoted(key)} but it is missing")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> "HyperAlignConfig":
        """Strict inverse of `to_json`; raises ValueError if the text is not JSON, else as `from_dict`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"Expected a JSON object as HyperAlign config but it does not parse: {error}") from error
        return cls.from_dict(values)


_HINTS = typing.get_type_hints(HyperAlignConfig)


def check_type(name: str, value: Any, hint: Any) -> Any:
    """Return `value` if it has exactly the type `hint`.

    Where `hint` is float, an int is converted and a bool is refused.

    Raises:
        TypeError: another type.
        ValueError: a string that is none of the literals, or a float that is not finite.
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) or _is_union(hint) else (hint,)
    for option in options:
        if typing.get_origin(option) is Literal:
            if isinstance(value, str) and value in typing.get_args(option):
                return value
        elif option is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                try:
                    number = float(value)
                except OverflowError:
                    number = math.inf
                if not math.isfinite(number):
                    raise ValueError(f"Expected {name} to be finite but got {quoted(number)}")
                return number
        elif type(value) is option:
            return value
    names = ", ".join(
        f"one of {typing.get_args(o)}" if typing.get_origin(o) is Literal else o.__name__ for o in options
    )
    wrong_choice = isinstance(value, str) and any(typing.get_origin(o) is Literal for o in options)
    raise (ValueError if wrong_choice else TypeError)(
        f"Expected {name} to be {names} but got {quoted(value)} ({type(value).__name__})"
    )


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union
