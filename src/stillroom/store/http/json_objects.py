"""JSON parser for request bodies, with limits for the number and the nesting of values.

The parser of the standard library would block all threads for 1.7 s if a client sends 4 MiB of
short names. This parser stops at the limit, and other threads can run between two values.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, NoReturn

MAX_VALUES: Final = 4096  # four times as many as the largest valid requests contain
_MAX_DEPTH: Final = 16
_SPACE: Final = re.compile(r"[ \t\n\r]*")  # RFC 8259, 2


class TooManyValuesError(ValueError):
    """Exception for a JSON object that has too many values, or too many levels."""


def parse_object(data: bytes) -> dict[str, object]:
    """Parse a JSON object. Raise ValueError for other data, duplicate names and too many values."""
    parser = _Parser(data.decode(json.detect_encoding(data), "surrogatepass"))
    document = parser.parse_value(0)
    if parser.peek():
        raise ValueError("unexpected text after the JSON object")
    if not isinstance(document, dict):
        raise ValueError("the JSON document is not an object")  # noqa: TRY004  (invalid data, not a wrong argument type)
    return document


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._values = 0
        self._scalar = json.JSONDecoder(parse_constant=refuse_constant).raw_decode

    def parse_value(self, depth: int) -> object:
        self._values += 1
        if self._values > MAX_VALUES or depth > _MAX_DEPTH:
            raise TooManyValuesError(
                f"more than {MAX_VALUES} values or {_MAX_DEPTH} levels of nesting"
            )
        opening = self.peek()
        if opening == "{":
            return self._parse_object(depth)
        if opening == "[":
            return [self.parse_value(depth + 1) for _ in self._items("]")]
        value, self._at = self._scalar(self._text, self._at)
        return value

    def _parse_object(self, depth: int) -> dict[str, object]:
        members: dict[str, object] = {}
        for _ in self._items("}"):
            if self.peek() != '"':
                raise ValueError("a name is missing")
            name, self._at = self._scalar(self._text, self._at)
            if name in members:
                raise ValueError("a name occurs twice in a JSON object")
            self._skip(":")
            members[name] = self.parse_value(depth + 1)
        return members

    def _items(self, closing: str) -> Iterator[None]:
        """Skip the brackets and commas of an object or array. Yield before each item."""
        self._at += 1
        if self.peek() != closing:
            yield
            while self.peek() != closing:
                self._skip(",")
                yield
        self._at += 1

    def _skip(self, mark: str) -> None:
        if self.peek() != mark:
            raise ValueError(f"{mark} is missing")
        self._at += 1

    def peek(self) -> str:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]


def refuse_constant(name: str) -> NoReturn:
    """Raise ValueError for `NaN` or `Infinity`, as `parse_constant` of the module `json`."""
    raise ValueError(f"{name} is not allowed in JSON")
