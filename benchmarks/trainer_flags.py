"""Command-line flags for the trainers: a benchmark's own flags, with a run's changes."""

from collections.abc import Sequence


def changed(flags: Sequence[str], *changes: Sequence[str]) -> list[str]:
    """Replace the values of `flags` by those in `changes`, because the trainers reject a flag that is given twice.

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
