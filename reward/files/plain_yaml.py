"""Read YAML recipes as plain data. A file from an untrusted source cannot run code or fill the memory."""

from pathlib import Path
from typing import Any

import yaml

from reward.files.quoting import quoted, shortened

# bytes; PyYAML needs about a second for this much, and recipes have a few kilobytes
LARGEST = 100_000


def read_plain_yaml(path: Path) -> Any:
    """The value of a UTF-8 YAML file, made of mappings, lists, text, numbers and dates.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `parse_plain_yaml`, or the file has more than `LARGEST` bytes. The message names the file.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{path}: expected YAML of at most {LARGEST} bytes but got {size}")
    try:
        return parse_plain_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error


def parse_plain_yaml(text: str) -> Any:
    """The value of a YAML text, read by PyYAML's safe loader. Aliases are refused.

    With aliases, a few lines can make a value that takes hours to print or that contains itself.

    Raises:
        ValueError: the text is not YAML, has a Python tag, an alias or a key twice, or is nested too deeply.

    Example:
        >>> parse_plain_yaml("epochs: 3")
        {'epochs': 3}
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    # not only YAMLError: `!!int ""` raises IndexError, `!!bool x` KeyError and 1,000 brackets RecursionError
    except Exception as error:
        raise ValueError(shortened(error, 1000) or type(error).__name__) from error


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.composer.ComposerError(
                None, None, f"expected no alias but got *{event.anchor}; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        # PyYAML keeps the last value of a repeated key and ignores the others
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected each key once but got {quoted(key.value)} twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
