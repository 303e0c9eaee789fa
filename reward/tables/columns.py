"""Which column of a table holds the picture, which the prompt, which the score: by name, or by its usual names."""

from collections.abc import Iterable, Mapping, Sequence

from reward.files.quoting import shortened

# What a column is called, the likeliest first. file_name and image_file_name are imagefolder's words, path is that of
# our own score files, jpg, png and webp are WebDataset's.
USUAL_NAMES = {
    "image": ("image", "file_name", "path", "image_file_name", "img_path", "jpg", "jpeg", "png", "webp"),
    "prompt": ("prompt", "text", "caption"),
    "score": ("score", "mos", "rating"),
}


class MissingColumnError(ValueError):
    """A table without a column that is needed."""


def find_columns(
    present: Sequence[str],
    roles: Iterable[str],
    named: Mapping[str, str],
    where: str = "",
    optional: Iterable[str] = (),
) -> dict[str, str]:
    """Role -> the name of its column.

    Args:
        present: the table's columns.
        roles: of `USUAL_NAMES`, those that are needed.
        named: role -> column, where the user said which.
        where: file, for the message.
        optional: roles that are found where they are and left out where not.

    Raises:
        MissingColumnError: none of the usual names, or not the named one.
        ValueError: two columns of that name.

    Example:
        >>> find_columns(["file_name", "text"], ["image", "prompt"], {})
        {'image': 'file_name', 'prompt': 'text'}
    """
    found = {}
    lower = {name.casefold(): name for name in reversed(present)}
    at = f"{where}: " if where else ""
    optional = set(optional)
    for role in roles:
        wanted = (named[role],) if role in named else USUAL_NAMES[role]
        name = next((name for name in wanted if name in present), None)
        if name is None and role not in named:
            # spreadsheets have Image and Prompt
            name = next((lower[name] for name in wanted if name in lower), None)
        if name is None:
            if role in optional and role not in named:
                continue
            raise MissingColumnError(
                f"{at}expected a column {' or '.join(wanted)} but there is "
                f"{shortened(', '.join(present)) or 'none'}; rename it, or name yours: --{role}-column, in Python "
                f"columns={{{role!r}: ...}}"
            )
        if present.count(name) > 1:
            raise ValueError(f"{at}expected one column {name} but there are {present.count(name)}; rename the others")
        found[role] = name
    return found


def described(source: str, columns: Mapping[str, str]) -> str:
    """What was chosen, in words: `photos.csv: image from 'file_name', prompt from 'text'`."""
    return f"{source}: " + ", ".join(f"{role} from {name!r}" for role, name in columns.items())
