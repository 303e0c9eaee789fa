"""Tab-separated text without quotes -> numbered lines."""

from collections.abc import Iterator
from pathlib import Path


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another encoding; names the line.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: expected UTF-8 but got the byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from error


def tab_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of each line; a quote is a quote, it may stand at the start of a prompt."""
    # Not splitlines(): it would also cut at characters that may stand inside a prompt, such as U+2028.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line.split("\t")
