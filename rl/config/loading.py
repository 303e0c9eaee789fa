"""Load a config from YAML and command line, with stricter checks than `trl.TrlParser`.

`TrlParser` (half a second to import, no torch) does the parsing and the help page. This file also rejects what it would
accept: an `env:` block, unknown keys, values of a wrong type, abbreviated flags.
"""

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from reward.cli.flags import RepeatedFlags
from reward.files.plain_yaml import parse_plain_yaml, read_plain_yaml
from reward.files.quoting import quoted
from rl.config.train_config import TrainConfig

Config = TypeVar("Config", bound=TrainConfig)


def load_config(
    config_class: type[Config],
    argv: Sequence[str],
    *,
    default_recipe: Path | None = None,
    prog: str | None = None,
    description: str | None = None,
) -> Config:
    """Load the config from `--config FILE` and from flags, which override the file.

    Without `--config`, a resumed run uses its own `config.yaml`, and a new run uses `default_recipe`. Fields that are
    missing in the file have their dataclass defaults.

    Raises:
        ValueError: unknown key, wrong type or range, `env:` block, or batch sizes that do not fit each other.
        FileNotFoundError: the config file does not exist.
        SystemExit: after `--help`.

    Example:
        >>> load_config(DDPOConfig, ["--config", "configs/ddpo_sd15.yaml", "--lora_rank", "8"])
    """
    parser = _parser(config_class, default_recipe, prog, description)
    *parts, rest, leftover = parser.parse_args_into_dataclasses(
        args=list(argv), return_remaining_strings=True, look_for_args_file=False
    )
    fields = {item.name: item for item in dataclasses.fields(config_class)}
    if leftover:
        _refuse_leftover(leftover, fields)
    given = {
        name: _from_text(fields[name], text)
        for part in parts
        for name, text in vars(part).items()
        if text is not None
    }
    values: dict[str, Any] = {}
    if rest.config is not None:
        values = read_yaml(Path(rest.config), config_class)
    elif given.get("resume_from"):
        run = find_run(Path(given["resume_from"]))
        values = read_yaml(run / "config.yaml", config_class) | {"output_dir": str(run)}
    elif default_recipe is not None:
        values = read_yaml(default_recipe, config_class)
    return config_class(**(values | given))


def read_yaml(path: Path, config_class: type[TrainConfig]) -> dict[str, Any]:
    """Read a YAML file as a mapping whose keys are fields of `config_class`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mapping, an `env:` block, or an unknown key; the message suggests the nearest key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a YAML config at {path}, found no such file.")
    values = read_plain_yaml(path)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of field: value, got {type(values).__name__}.")
    names = [item.name for item in dataclasses.fields(config_class)]
    for key in values:
        if key == "env":
            raise ValueError(
                f"{path}: an `env:` block is refused, because a recipe must not change the process's environment. Set "
                "the variables in the shell."
            )
        if key not in names:
            raise ValueError(f"{path}: unknown key {quoted(key)}.{_nearest(str(key), names)}")
    return values


def write_yaml(config: TrainConfig, path: Path) -> None:
    """Write the full config, with defaults, as a YAML file for `read_yaml`."""
    from reward.files.writing import write_text

    write_text(path, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True))


def find_run(path: Path) -> Path:
    """The run folder, given itself or one of its checkpoints.

    Raises:
        FileNotFoundError: `path` is neither.
    """
    path = path.resolve() if path.name in ("", ".", "..") else path
    for folder in (path, path.parent.parent):
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    raise FileNotFoundError(
        f"resume_from: expected a run folder (config.yaml, checkpoints/) or a checkpoint in one, got {path}."
    )


def _parser(config_class: type[TrainConfig], recipe: Path | None, prog: str | None, description: str | None) -> Any:
    groups: dict[str, list[dataclasses.Field]] = {}
    for item in dataclasses.fields(config_class):
        groups.setdefault(item.metadata["group"], []).append(item)
    # All flags are parsed as text and converted by `_from_text`. YAML and command line then have the same checks, and a
    # missing flag (None) differs from one that repeats its default.
    parts = []
    for number, (group, items) in enumerate(groups.items()):
        members = []
        for item in items:
            kind = list[str] | None if _is_list(item) else str | None
            metadata = {"help": _help(item).replace("%", "%%")}
            members.append((item.name, kind, dataclasses.field(default=None, metadata=metadata)))
        namespace = {"_argument_group_name": group}
        parts.append(dataclasses.make_dataclass(f"Part{number}", members, namespace=namespace))
    parser = _flag_parser()(
        parts,
        prog=prog,
        usage="%(prog)s [--config FILE] [--field value ...]",
        description=description,
        allow_abbrev=False,
        formatter_class=lambda prog: _OneMetavar(prog, max_help_position=30, width=110),
    )
    start = f"without it the run starts from {recipe.parent.name}/{recipe.name}" if recipe else "else defaults"
    parser.add_argument("--config", metavar="FILE", help=f"YAML recipe; {start}.")
    return parser


def _flag_parser() -> type:
    """TRL's parser, but repeated flags are collected or rejected, as in our other commands."""
    from trl import TrlParser

    class FlagParser(RepeatedFlags, TrlParser):
        pass

    return FlagParser


class _OneMetavar(argparse.HelpFormatter):
    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "VALUE"


def _help(item: dataclasses.Field) -> str:
    default = item.default if item.default is not dataclasses.MISSING else item.default_factory()
    kind = _plain_type(item)
    if typing.get_origin(kind) is typing.Literal:
        what = "|".join(map(str, typing.get_args(kind)))
    elif _is_list(item):
        what = f"{typing.get_args(kind)[0].__name__} ..."
    else:
        what = {"bool": "true|false"}.get(kind.__name__, kind.__name__)
    return f"{item.metadata['help']} [{what}; default: {_shown(default)}]"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value in ("", {}) else str(value)


def _plain_type(item: dataclasses.Field) -> Any:
    if typing.get_origin(item.type) in (types.UnionType, typing.Union):
        return next(arg for arg in typing.get_args(item.type) if arg is not type(None))
    return item.type


def _is_list(item: dataclasses.Field) -> bool:
    return typing.get_origin(_plain_type(item)) is list


def _from_text(item: dataclasses.Field, text: str | list[str]) -> Any:
    """Convert a flag's text to the field's type; if that fails, return the text, which `check_value` rejects."""
    kind = _plain_type(item)
    if isinstance(text, list):
        (inner,) = typing.get_args(kind)
        return [_scalar_from_text(inner, word) for word in text]
    if kind is not item.type and text.lower() in ("none", "null"):
        return None
    return _scalar_from_text(kind, text)


def _scalar_from_text(kind: Any, text: str) -> Any:
    if kind is str or typing.get_origin(kind) is typing.Literal:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is dict:
        return parse_plain_yaml(text)
    try:
        return kind(text)
    except ValueError:
        return text


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else " See --help for the fields."


def _refuse_leftover(leftover: Sequence[str], fields: typing.Mapping[str, Any]) -> None:
    flags = [word for word in leftover if word.startswith("--")]
    if not flags:
        raise ValueError(f"Expected --field value, got {quoted(' '.join(leftover))} without a flag.")
    name = flags[0][2:].split("=")[0]
    raise ValueError(f"Unknown flag --{name}.{_nearest(name.replace('-', '_'), list(fields))}")
