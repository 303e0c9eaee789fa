"""What a message quotes of a value that came from outside: enough to find it again, never all of it.

A cell of a table may hold a whole picture as bytes, a prompt may have a million letters. Every message that shows such
a value goes through `quoted`, or through `shortened` where it is text that needs no quotes, as a path.
"""

import reprlib
from typing import Any

# Characters of a value in a message; a path has its folder and its name.
MOST, MOST_OF_TEXT = 80, 240


def quoted(value: Any, most: int = MOST) -> str:
    """`repr(value)` of at most about `most` characters; what is cut says how long it was.

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
    """`str(text)`, of a longer one its start and its end.

    Example:
        >>> shortened("pictures/" + "x" * 1000 + "/ring.png", most=30)
        'pictures/xxxxxx...xxxxxx/ring.png (1018 characters)'
    """
    text = str(text)
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...{text[-(most // 2) :]} ({len(text)} characters)"


class _Short(reprlib.Repr):
    """reprlib's limits for what holds other values, ours for text and bytes in it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 6
        self.maxdict, self.maxlong, self.maxother, self.maxlevel = 6, MOST, MOST, 4

    def repr_str(self, value: str, level: int) -> str:
        return quoted(value, MOST // 2)

    repr_bytes = repr_bytearray = repr_str


_SHORT = _Short()
