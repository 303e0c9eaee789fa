"""What a training run can be told: the model, the optimiser, the split; strict YAML in and out."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from reward.files.quoting import quoted
from reward.files.writing import write_text
from reward.model.config import HyperAlignConfig, check_type

_FLOAT_TEXT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# the width is the backbone's, and a file that names another would only be wrong
_NOT_IN_RECIPES = "embed_dim"


def _knob(default: Any, help: str, **rules: float) -> Any:
    return field(default=default, metadata={"help": help, **rules})


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a training run; `model` is the model's own, whose `embed_dim` the backbone decides.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range.

    Example:
        >>> TrainingConfig(epochs=5, model=HyperAlignConfig(modulation="none")).model.modulation
        'none'
    """

    model: HyperAlignConfig = field(default_factory=HyperAlignConfig, metadata={"help": "Fields of the model."})
    seed: int = _knob(0, "Seed of the start values and of the shuffling; same seed, same model.", min=0)

    split_seed: int = _knob(0, "Seed of the split by prompt.", min=0)
    test_share: float = _knob(0.2, "Share of the prompts that is never looked at in training.", min=0, below=1)
    val_share: float = _knob(0.1, "Share of the prompts that decides when to stop.", above=0, below=1)

    epochs: int = _knob(20, "Epochs at most.", min=1)
    batch_size: int = _knob(8, "Pairs an optimiser step, all processes together.", min=1)
    lr_head: float = _knob(1e-3, "Learning rate of the modulation.", above=0)
    lr_adapter: float = _knob(1e-3, "Learning rate of the adapters' matrices and biases.", above=0)
    lr_scales: float = _knob(1e-3, "Learning rate of the scales a0 and the adapters' gates.", above=0)
    lr_backbone: float = _knob(1e-6, "Learning rate of the backbone, with fine_tune.", above=0)
    lr_schedule: Literal["constant", "cosine"] = _knob("cosine", "Course of the learning rates; cosine ends at 0.")
    weight_decay: float = _knob(1e-2, "AdamW's decay of matrices; scales, gates and biases never decay.", min=0)
    max_grad_norm: float = _knob(1.0, "Gradient norm is clipped to this.", above=0)

    patience: int = _knob(5, "Stop after that many epochs without a better validation SRCC; 0: never.", min=0)
    keep_epoch: Literal["best", "last"] = _knob(
        "best", "Epoch that is kept: the best by validation SRCC, or the last, as few validation prompts mislead."
    )
    fine_tune: bool = _knob(False, "Train the backbone too; its features are then not cached.")
    mixed_precision: Literal["no", "bf16", "fp16"] = _knob(
        "no", "Of the image tower when it is trained; the geometry, which cancels in half precision, stays float32."
    )
    controls: bool = _knob(True, "Train the twins that an evaluation shows beside the model (three fits for one).")

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = check_type(item.name, getattr(self, item.name), item.type)
            object.__setattr__(self, item.name, value)
            rules = item.metadata
            for rule, holds, words in (
                ("min", lambda v, r: v >= r, "at least"),
                ("above", lambda v, r: v > r, "above"),
                ("below", lambda v, r: v < r, "below"),
            ):
                if rule in rules and not holds(value, rules[rule]):
                    raise ValueError(f"Expected {item.name} to be {words} {rules[rule]} but got {quoted(value)}")
        if self.test_share + self.val_share >= 1:
            raise ValueError(
                f"Expected test_share + val_share below 1, so that prompts are left to train on, but got "
                f"{self.test_share} + {self.val_share}"
            )
        if self.keep_epoch == "last" and self.patience > 0:
            raise ValueError(
                f"Expected patience 0 with keep_epoch 'last' but got {self.patience}: a run that stops for want of a "
                "better epoch would end on one that is not better"
            )
        if self.mixed_precision != "no" and not self.fine_tune:
            raise ValueError(
                f"Expected mixed_precision 'no' with a frozen backbone but got {self.mixed_precision!r}: its features "
                "are cached in float32, and the head computes in float32. Set fine_tune: true, or leave it"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields; `model` without its width."""
        values = dataclasses.asdict(self)
        del values["model"][_NOT_IN_RECIPES]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Strict inverse of `to_dict`; absent keys are defaults.

        Raises:
            TypeError, ValueError: as the class; an unknown key, with the nearest one.
        """
        names = {item.name: item for item in dataclasses.fields(cls)}
        for key in values:
            if key not in names:
                raise ValueError(f"Unknown key {quoted(key)} in a training config{_nearest(str(key), names)}")
        read = {key: _plain(names[key].type, value) for key, value in values.items()}
        if "model" in read:
            read["model"] = _model_config(values["model"])
        return cls(**read)


def load_training_config(
    path: str | PathLike | None = None, overrides: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """TrainingConfig from a YAML file (None: the defaults), then from `overrides` such as {"model.curvature": 2.0}.

    Raises:
        FileNotFoundError: no such file.
        TypeError, ValueError: not YAML, not a mapping, an `env:` block, an unknown key, a value of the wrong type or
            out of range; the message names the file.

    Example:
        >>> load_training_config("configs/hyperalign_adapter.yaml", {"epochs": 3}).epochs
        3
    """
    values = {} if path is None else _read_mapping(Path(path))
    source = "" if path is None else f"{path}: "
    overrides = dict(overrides or {})
    if "model.backbone" in overrides:
        # another backbone has its own weights, not those that the file names
        overrides.setdefault("model.pretrained", None)
    for name, value in overrides.items():
        parent, _, child = name.partition(".")
        if child:
            if parent != "model":
                raise ValueError(
                    f"Unknown key {quoted(name)}; only fields of the model are named with a dot, as model.FIELD"
                )
            values["model"] = {**(values.get("model") or {}), child: value}
        else:
            values[name] = value
    try:
        return TrainingConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{source}{error}") from error


def write_training_config(config: TrainingConfig, path: str | PathLike) -> None:
    """The whole config, defaults included, as a YAML file that `load_training_config` reads back."""
    import yaml

    write_text(Path(path), yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))


def _read_mapping(path: Path) -> dict[str, Any]:
    from reward.files.plain_yaml import read_plain_yaml

    if not path.is_file():
        raise FileNotFoundError(f"Expected a YAML training config at {path} but there is no such file")
    values = read_plain_yaml(path)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of field: value but got {type(values).__name__}")
    if "env" in values:
        raise ValueError(
            f"{path}: an `env:` block is refused, since a recipe must not change the environment of the process; set "
            "the variables in the shell"
        )
    return values


def _model_config(values: Any) -> HyperAlignConfig:
    if isinstance(values, HyperAlignConfig):
        return values
    if not isinstance(values, Mapping):
        raise TypeError(f"Expected model to be a mapping of the model's fields but got {type(values).__name__}")
    if _NOT_IN_RECIPES in values:
        raise ValueError(f"Expected no {_NOT_IN_RECIPES} in model: it is the backbone's; leave the line out")
    default = HyperAlignConfig()
    kinds = {item.name: item.type for item in dataclasses.fields(HyperAlignConfig)}
    read = {key: _plain(kinds.get(key), value) for key, value in values.items()}
    try:
        return HyperAlignConfig.from_dict({_NOT_IN_RECIPES: default.embed_dim, "backbone": default.backbone, **read})
    except (TypeError, ValueError) as error:
        raise type(error)(f"model: {error}") from error


def _plain(kind: Any, value: Any) -> Any:
    """What YAML 1.1 reads otherwise than everybody means it: 1e-4 as text, `no` as false."""
    if kind is float and isinstance(value, str) and _FLOAT_TEXT.fullmatch(value):
        return float(value)
    if value is False and kind is not bool and "no" in getattr(kind, "__args__", ()):
        return "no"
    return value


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    inside = name in {item.name for item in dataclasses.fields(HyperAlignConfig)}
    if inside:
        return "; it is a field of the model, put it under `model:`"
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(names)}"
