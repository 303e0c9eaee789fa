"""The flags of a trainer that a benchmark starts: its own recipe, and what a run changes of it."""

from collections.abc import Sequence


def changed(flags: Sequence[str], *changes: Sequence[str]) -> list[str]:
    """Flags with their values, those of `changes` in the place of flags of the same name; the trainers refuse both.

    Example:
        >>> changed(["--seed", "0", "--num_epochs", "9"], ["--num_epochs", "2"])
        ['--seed', '0', '--num_epochs', '2']
    """
    found: dict[str, list[str]] = {}
    for part in (flags, *changes):
        own: dict[str, list[str]] = {}
        values: list[str] = []
        for word in part:
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                values = own.setdefault(name, [])
                values += [value] if equals else []
            else:
                values.append(word)
        found |= own
    return [word for name, values in found.items() for word in (name, *values)]
