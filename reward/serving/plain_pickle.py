"""Pickles of plain data: dicts, lists, tuples, strings, bytes, numbers, booleans and None; anything else is refused.

A pickle is a program for a small stack machine, and Python's own machine imports and calls what the program names. The
one here has no instruction that imports, calls or looks anything up: it runs what plain data needs and knows no class.
It takes its instructions apart with the standard library's `pickletools`, which only reads.
"""

import pickle
import pickletools
from collections.abc import Callable
from typing import Any

_MOST_OPCODES = 200_000
_MOST_DEPTH = 16
_MARK = object()
_PLAIN = (str, bytes, int, float, bool, type(None))
_CONTAINERS = (list, tuple, dict)

_PUSHED_ARGUMENT = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple,
}  # fmt: skip


class NotPlainError(ValueError):
    """A pickle that holds more than plain data, is damaged, or is a bomb."""


def dumps(value: Any) -> bytes:
    """Plain data as a pickle that any Python 3 reads."""
    return pickle.dumps(value, protocol=2)


def loads(data: bytes) -> Any:
    """The plain data in a pickle of any protocol.

    Raises:
        NotPlainError: classes, functions or anything that would be called; damage; more than 200,000 instructions or
            16 levels of nesting.

    Example:
        >>> loads(dumps({"prompts": ["a red ring"]}))
        {'prompts': ['a red ring']}
    """
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number > _MOST_OPCODES:
                raise NotPlainError(f"Expected a pickle of at most {_MOST_OPCODES} instructions but got more.")
            machine.run(opcode.name, argument)
    except NotPlainError:
        raise
    # pickletools reports damage as any of several errors, the machine as an empty stack or an unknown memo
    except Exception as error:
        raise NotPlainError(f"Expected a whole pickle but got a damaged one: {str(error)[:200]}") from None
    _check_depth(machine.result)
    return machine.result


class _Machine:
    """The stack, the memo, and the instructions that plain data needs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def run(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PUSHED_ARGUMENT:
            stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = self._value(stack[-1])
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._since_mark()
        elif name == "DUP":
            stack.append(self._value(stack[-1]))
        elif name == "APPEND":
            item = self._value(stack.pop())
            self._top(list).append(item)
        elif name == "APPENDS":
            items = self._since_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            self._set_items(name)
        elif name == "LIST":
            stack.append(self._since_mark())
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = [self._value(item) for item in stack[-count:]]
            if len(items) != count:
                raise NotPlainError("Expected a whole pickle but got a damaged one: a tuple lacks items.")
            stack[-count:] = [tuple(items)]
        elif name == "STOP":
            self.result = self._value(stack.pop())
            if stack:
                raise NotPlainError("Expected one value in a pickle but got more.")
        else:
            raise NotPlainError(
                f"Expected a pickle of dicts, lists, strings, bytes and numbers but got the instruction {name}, which "
                "could run code; nothing was run. Send numpy arrays as lists (array.tolist()) and pictures as bytes."
            )

    def _set_items(self, name: str) -> None:
        if name == "SETITEM":
            value = self._value(self.stack.pop())
            items = [self._value(self.stack.pop()), value]
        else:
            items = self._since_mark()
        if name == "DICT":
            self.stack.append({})
        target = self._top(dict)
        if len(items) % 2:
            raise NotPlainError("Expected a whole pickle but got a damaged one: a key without a value.")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # the hash of a tuple in tuples in tuples may take for ever
            if not isinstance(key, _PLAIN):
                raise NotPlainError(f"Expected keys to be strings or numbers but got a {type(key).__name__}.")
            target[key] = value

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise NotPlainError("Expected a whole pickle but got a damaged one: items for what holds none.")
        return self.stack[-1]

    @staticmethod
    def _value(item: Any) -> Any:
        if item is _MARK:
            raise NotPlainError("Expected a whole pickle but got a damaged one: a mark where a value belongs.")
        return item


def _check_depth(value: Any) -> None:
    """Refuse nesting that code which walks through the data could fall into; level by level, each container once."""
    level = {id(value): value} if isinstance(value, _CONTAINERS) else {}
    for _ in range(_MOST_DEPTH):
        inner = (item for box in level.values() for item in (box.values() if isinstance(box, dict) else box))
        level = {id(item): item for item in inner if isinstance(item, _CONTAINERS)}
        if not level:
            return
    raise NotPlainError(f"Expected at most {_MOST_DEPTH} levels of nesting but got more.")
