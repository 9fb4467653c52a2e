"""Parse the Python literals of `.npy` headers: text, integers, True, False, None, tuples, lists and dicts.

A parser of its own, because evaluating a file's text, in whatever way, is not for data from outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

Item = TypeVar("Item")

MAX_DEPTH: Final = 16
_TOKEN: Final = re.compile(
    r"""[ \n]*(?:
    (?P<text>'[^'\\\n]*' | "[^"\\\n]*")
    | (?P<number>-?(?:0|[1-9][0-9]{0,18}))L?  # Python 2 wrote 3L
    | (?P<word>True|False|None)
    | (?P<sign>[\[\](){}:,])
    )[ \n]*""",
    re.VERBOSE,
)
_WORDS: Final = {"True": True, "False": False, "None": None}
_ENDS: Final = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class LiteralDict:
    """The pairs of a dict; a key may occur twice."""

    pairs: tuple[tuple[object, object], ...]


class LiteralError(ValueError):
    """A text that is no literal of these types."""


def parse_literal(text: str) -> object:
    """Return the value of a literal; nothing is hashed. Raises LiteralError."""
    tokens = _split(text)
    value = _read_value(tokens, 0)
    if tokens:
        raise LiteralError("something follows the value")
    return value


def _split(text: str) -> list[tuple[str, str]]:
    """Return kind and text of every token, the last one first."""
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise LiteralError(f"character {at} starts no value")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens[::-1]


def _read_value(tokens: list[tuple[str, str]], depth: int) -> object:
    kind, text = _next(tokens)
    if kind == "text":
        return text[1:-1]
    if kind == "number":
        return int(text)
    if kind == "word":
        return _WORDS[text]
    if text not in _ENDS or depth >= MAX_DEPTH:
        raise LiteralError("a value is missing, or nested too deep")
    if text == "{":
        pairs = _read_items(tokens, "}", _read_pair, depth + 1)[0]
        return LiteralDict(tuple(pairs))
    items, ended_by_comma = _read_items(tokens, _ENDS[text], _read_value, depth + 1)
    if text == "(":
        return tuple(items) if len(items) != 1 or ended_by_comma else items[0]
    return items


def _read_pair(tokens: list[tuple[str, str]], depth: int) -> tuple[object, object]:
    key = _read_value(tokens, depth)
    if not _skip(tokens, ":"):
        raise LiteralError("a key has no value")
    return key, _read_value(tokens, depth)


def _read_items(
    tokens: list[tuple[str, str]], end: str, read: Callable[[list[tuple[str, str]], int], Item], depth: int
) -> tuple[list[Item], bool]:
    """Return the items up to the sign `end`, and whether a comma stood before it."""
    items: list[Item] = []
    while not _skip(tokens, end):
        items.append(read(tokens, depth))
        if not _skip(tokens, ","):
            if not _skip(tokens, end):
                raise LiteralError("a comma is missing")
            return items, False
    return items, bool(items)


def _skip(tokens: list[tuple[str, str]], sign: str) -> bool:
    if not tokens or tokens[-1] != ("sign", sign):
        return False
    tokens.pop()
    return True


def _next(tokens: list[tuple[str, str]]) -> tuple[str, str]:
    if not tokens:
        raise LiteralError("it ends early")
    return tokens.pop()
