"""The configuration of a training run (model, optimiser, split), read from and written to strict YAML."""

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
# the backbone decides the width, so a recipe must not name one
_NOT_IN_RECIPES = "embed_dim"


def _knob(default: Any, help: str, **rules: float) -> Any:
    return field(default=default, metadata={"help": help, **rules})


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a training run. `model` configures the model; the backbone decides its `embed_dim`.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of range, or two values contradict each other.

    Example:
        >>> TrainingConfig(epochs=5, model=HyperAlignConfig(modulation="none")).model.modulation
        'none'
    """

    model: HyperAlignConfig = field(default_factory=HyperAlignConfig, metadata={"help": "Fields of the model."})
    seed: int = _knob(0, "Seed of the initial weights and of the shuffling.", min=0)

    split_seed: int = _knob(0, "Seed of the split by prompt.", min=0)
    test_share: float = _knob(0.2, "Share of the prompts for the test; they are not used in training.", min=0, below=1)
    val_share: float = _knob(0.1, "Share of the prompts for validation.", above=0, below=1)

    epochs: int = _knob(20, "Largest number of epochs.", min=1)
    batch_size: int = _knob(8, "Pairs per optimiser step, over all processes together.", min=1)
    lr_head: float = _knob(1e-3, "Learning rate of the modulation.", above=0)
    lr_adapter: float = _knob(1e-3, "Learning rate of the adapters' matrices and biases.", above=0)
    lr_scales: float = _knob(1e-3, "Learning rate of the scales a0 and the adapters' gates.", above=0)
    lr_backbone: float = _knob(1e-6, "Learning rate of the backbone, with fine_tune.", above=0)
    lr_schedule: Literal["constant", "cosine"] = _knob("cosine", "Schedule of the learning rates; cosine ends at 0.")
    weight_decay: float = _knob(1e-2, "Weight decay of matrices; scales, gates and biases have none.", min=0)
    max_grad_norm: float = _knob(1.0, "The gradient is clipped to this norm.", above=0)

    hard_negatives: float = _knob(
        0.0, "Share of the well rated pairs that come a second time with one fact of the prompt swapped.", min=0
    )
    patience: int = _knob(5, "Stop after this many epochs without a better validation SRCC; 0: never.", min=0)
    keep_epoch: Literal["best", "last"] = _knob(
        "best", "Epoch to keep: the best by validation SRCC, or the last, if there are few validation prompts."
    )
    fine_tune: bool = _knob(False, "Train the backbone too; its features are then not cached.")
    mixed_precision: Literal["no", "bf16", "fp16"] = _knob(
        "no", "Precision of the image tower with fine_tune; the geometry stays float32, because it needs the precision."
    )
    controls: bool = _knob(True, "Also train the two control models that an evaluation compares with (3 fits in all).")

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
                f"Expected test_share + val_share below 1, so that some prompts are left for training, but got "
                f"{self.test_share} + {self.val_share}"
            )
        if self.keep_epoch == "last" and self.patience > 0:
            raise ValueError(
                f"Expected patience 0 with keep_epoch 'last' but got {self.patience}; early stopping would keep an "
                "epoch that is not the best. Set patience: 0, or keep_epoch: best"
            )
        if self.fine_tune and self.model.entailment == "compositional" and self.model.lambda_ent:
            raise ValueError(
                "Expected fine_tune false with entailment 'compositional' but got true; shorter prompts are compared "
                "by cached features only. Set fine_tune: false, or model.entailment: two_sided"
            )
        if self.mixed_precision != "no" and not self.fine_tune:
            raise ValueError(
                f"Expected mixed_precision 'no' with a frozen backbone but got {self.mixed_precision!r}; its features "
                "are cached in float32, and the head computes in float32. Set fine_tune: true, or leave it out"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dict; `model` is a dict without `embed_dim`."""
        values = dataclasses.asdict(self)
        del values["model"][_NOT_IN_RECIPES]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Strict inverse of `to_dict`. Missing keys take their defaults.

        Raises:
            TypeError, ValueError: as the class, or a key is unknown; the message suggests a similar one.
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
    """Read a TrainingConfig from a YAML file, then apply overrides.

    Args:
        path: the YAML file; None uses the defaults.
        overrides: values by field, for example {"epochs": 3, "model.curvature": 2.0}.

    Raises:
        FileNotFoundError: the file does not exist.
        TypeError, ValueError: the file is not YAML or not a mapping, has an `env:` block or an unknown key, or a value
            has the wrong type or is out of range. The message names the file.

    Example:
        >>> load_training_config("configs/hyperalign_adapter.yaml", {"epochs": 3}).epochs
        3
    """
    values = {} if path is None else _read_mapping(Path(path))
    source = "" if path is None else f"{path}: "
    overrides = dict(overrides or {})
    if "model.backbone" in overrides:
        # the weights that the file names belong to the old backbone
        overrides.setdefault("model.pretrained", None)
    for name, value in overrides.items():
        parent, _, child = name.partition(".")
        if child:
            if parent != "model":
                raise ValueError(
                    f"Unknown key {quoted(name)}; only fields of the model have a dot, as in model.FIELD"
                )
            values["model"] = {**(values.get("model") or {}), child: value}
        else:
            values[name] = value
    try:
        return TrainingConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{source}{error}") from error


def write_training_config(config: TrainingConfig, path: str | PathLike) -> None:
    """Write the whole config, with defaults, to a YAML file that `load_training_config` reads."""
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
            f"{path}: an `env:` block is not allowed, because a recipe must not change the environment of the process; "
            "set the variables in the shell"
        )
    return values


def _model_config(values: Any) -> HyperAlignConfig:
    if isinstance(values, HyperAlignConfig):
        return values
    if not isinstance(values, Mapping):
        raise TypeError(f"Expected model to be a mapping of the model's fields but got {type(values).__name__}")
    if _NOT_IN_RECIPES in values:
        raise ValueError(
            f"Expected no {_NOT_IN_RECIPES} in model, because the backbone decides it; delete the line"
        )
    default = HyperAlignConfig()
    kinds = {item.name: item.type for item in dataclasses.fields(HyperAlignConfig)}
    read = {key: _plain(kinds.get(key), value) for key, value in values.items()}
    try:
        return HyperAlignConfig.from_dict({_NOT_IN_RECIPES: default.embed_dim, "backbone": default.backbone, **read})
    except (TypeError, ValueError) as error:
        raise type(error)(f"model: {error}") from error


def _plain(kind: Any, value: Any) -> Any:
    """Undo two surprises of YAML 1.1: it reads 1e-4 as text and `no` as false."""
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
