"""Shorten values in messages: enough of a value to find it again, never a very long one.

A cell of a table may contain a whole image as bytes, and a prompt may have a million letters. Every message that shows
such a value uses `quoted`, or `shortened` for text without quotes, such as a path.
"""

import reprlib
from typing import Any

# characters of a value in a message; more for text, so that a path keeps its folder and its name
MOST, MOST_OF_TEXT = 80, 240


def quoted(value: Any, most: int = MOST) -> str:
    """`repr(value)`, cut to about `most` characters. If it is cut, the full length is added.

    Example:
        >>> quoted("a red ring"), quoted(bytes(5000), most=12)
        ("'a red ring'", "b'\\\\x00\\\\x00\\\\x0... (5000 bytes)")
    """
    if isinstance(value, (str, bytes, bytearray)):
        text = repr(value[:most])
        if len(value) <= most and len(text) <= 2 * most:
            return text
        return f"{text[:most]}... ({len(value)} {'characters' if isinstance(value, str) else 'bytes'})"
    text = _SHORT.repr(value)
    return text if len(text) <= 2 * most else f"{text[:most]}..."


def shortened(text: Any, most: int = MOST_OF_TEXT) -> str:
    """`str(text)`. If it has more than `most` characters, only its start and end, and the full length.

    Example:
        >>> shortened("pictures/" + "x" * 1000 + "/ring.png", most=30)
        'pictures/xxxxxx...xxxxxx/ring.png (1018 characters)'
    """
    text = str(text)
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...{text[-(most // 2) :]} ({len(text)} characters)"


class _Short(reprlib.Repr):
    """reprlib's limits for containers, and ours for text and bytes inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 6
        self.maxdict, self.maxlong, self.maxother, self.maxlevel = 6, MOST, MOST, 4

    def repr_str(self, value: str, level: int) -> str:
        return quoted(value, MOST // 2)

    repr_bytes = repr_bytearray = repr_str


_SHORT = _Short()
