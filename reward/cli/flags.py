"""A command line on which nothing that was given is lost: a flag that is repeated adds up, or is refused.

argparse itself keeps the last of a repeated flag and forgets the others: of `--set a=1 --set b=2` it keeps `b=2`.
"""

import argparse
from collections.abc import Sequence
from typing import Any


class RepeatedFlags:
    """Mixed into a class of parsers: what its `add_argument` stores follows the rule of this file.

    - A flag of one or more values (`nargs` "+" or "*") keeps the values of every time that it is given.
    - A flag of one value may be repeated with the same value. Another value is an error, which names both.

    The rule holds for argument groups and sub-commands too.
    """

    def register(self, registry_name: str, value: Any, object: Any) -> None:
        """As argparse's own, which looks actions up by name; its `store` is replaced."""
        replaced = registry_name == "action" and value in (None, "store")
        super().register(registry_name, value, _Store if replaced else object)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's own; every call starts with no flag given."""
        self.flags_given: dict[str, Any] = {}
        return super().parse_known_args(args, namespace)


class ArgumentParser(RepeatedFlags, argparse.ArgumentParser):
    """argparse's parser with the rule of this file; no flag can be abbreviated.

    Example:
        >>> parser = ArgumentParser()
        >>> _ = parser.add_argument("--set", nargs="+", default=[])
        >>> parser.parse_args(["--set", "a=1", "--set", "b=2"]).set
        ['a=1', 'b=2']
    """

    def __init__(self, *args: Any, allow_abbrev: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **kwargs)


class _Store(argparse.Action):
    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        if option_string is not None:
            earlier = parser.flags_given.get(self.dest)
            if earlier is not None:
                if self.nargs in ("+", "*"):
                    values = [*earlier, *values]
                elif earlier != values:
                    raise argparse.ArgumentError(
                        self, f"given twice, as {_text(earlier)} and as {_text(values)}; give it once"
                    )
            parser.flags_given[self.dest] = values
        setattr(namespace, self.dest, values)


def _text(values: Any) -> str:
    return repr(" ".join(map(str, values)) if isinstance(values, list) else str(values))
