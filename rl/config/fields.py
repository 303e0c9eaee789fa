"""Config fields with help, group on the `--help` page and rules, and the check of their values."""

import dataclasses
import math
import re
import types
import typing
from dataclasses import field
from typing import Any, Literal

from reward.files.quoting import quoted

_FLOAT_TEXT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def knob(default: Any, group: str, help: str, **rules: Any) -> Any:
    """A dataclass field with its help, its group and its rules (`min`, `max`, `above`, `max_items`, `min_items`)."""
    metadata = {"help": help, "group": group, **rules}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_value(item: dataclasses.Field, value: Any) -> Any:
    """Check a value's type and range and convert it to the field's type.

    Raises:
        ValueError: "name: expected ..., got ...".
    """
    rules = item.metadata
    kind = item.type
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None:
            return None
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices or isinstance(value, bool):
            raise ValueError(f"{item.name}: expected one of {', '.join(map(str, choices))}, got {quoted(value)}.")
        return value
    if typing.get_origin(kind) is list:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{item.name}: expected a list, got {quoted(value)} ({type(value).__name__}).")
        (inner,) = typing.get_args(kind)
        checked = [_check_scalar(f"{item.name}[{i}]", inner, v, rules) for i, v in enumerate(value)]
        low, high = rules.get("min_items", 0), rules.get("max_items", math.inf)
        if not low <= len(checked) <= high:
            count = f"{low}" if low == high else f"at least {low}"
            raise ValueError(f"{item.name}: expected {count} item(s), got {len(checked)}: {quoted(value)}.")
        return checked
    return _check_scalar(item.name, kind, value, rules)


def _check_scalar(name: str, kind: type, value: Any, rules: typing.Mapping[str, Any]) -> Any:
    # PyYAML reads YAML 1.1, in which 1e-4 is a string. Read it as a number.
    if kind is float and isinstance(value, str) and _FLOAT_TEXT.fullmatch(value):
        value = float(value)
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        noun = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}[kind]
        raise ValueError(f"{name}: expected {noun}, got {quoted(value)} ({type(value).__name__}).")
    if kind is float:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {quoted(value)}.")
    if kind in (int, float):
        if "min" in rules and value < rules["min"]:
            raise ValueError(f"{name}: expected a number >= {rules['min']}, got {quoted(value)}.")
        if "max" in rules and value > rules["max"]:
            raise ValueError(f"{name}: expected a number <= {rules['max']}, got {quoted(value)}.")
        if "above" in rules and value <= rules["above"]:
            raise ValueError(f"{name}: expected a number > {rules['above']}, got {quoted(value)}.")
    return value
