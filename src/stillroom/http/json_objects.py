"""Reading a JSON object of a request: no more values, and no deeper, than any operation takes.

The standard library's parser makes everything that a body spells before anything is refused, and
no other thread gets a turn meanwhile: 4 MiB of short names take it 1.7 s. This one gives up at a
bound, and lets others in between two values.
"""

import json
import re
from json.decoder import JSONDecodeError
from typing import Final, NoReturn

MAX_VALUES: Final = 4096
"""A thousand paths, or a hundred items with all their members, are a quarter of that."""

_MAX_DEPTH: Final = 16
_SPACE: Final = re.compile(r"[ \t\n\r]*")
"""https://www.rfc-editor.org/rfc/rfc8259#section-2"""


class TooManyValuesError(ValueError):
    """It holds more values than any operation takes, or they lie deeper."""


def parse_object(data: bytes) -> dict[str, object]:
    """Read a JSON object in which no name is given twice.

    Raises:
        TooManyValuesError: it is more than is read here.
        ValueError: it is none.
    """
    text = data.decode(json.detect_encoding(data), "surrogatepass")
    found = _Reader(text).document()
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (the data's fault, not a caller's)
    return found


class _Reader:
    """One text, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._values = 0
        self._scalar = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode

    def document(self) -> object:
        """The one value that the text is.

        Raises:
            ValueError: it is not one value.
        """
        found = self._value(0)
        if self._next():
            raise JSONDecodeError("something follows", self._text, self._at)
        return found

    def _value(self, depth: int) -> object:
        self._values += 1
        if self._values > MAX_VALUES or depth > _MAX_DEPTH:
            raise TooManyValuesError(f"more than {MAX_VALUES} values, or {_MAX_DEPTH} levels")
        opening = self._next()
        if opening == "{":
            return self._object(depth)
        if opening == "[":
            return self._array(depth)
        found, self._at = self._scalar(self._text, self._at)
        return found

    def _object(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        more = self._enters("}")
        while more:
            if self._next() != '"':
                raise JSONDecodeError("a name is missing", self._text, self._at)
            name, self._at = self._scalar(self._text, self._at)
            if name in found:
                raise JSONDecodeError("a name is given twice", self._text, self._at)
            self._take(":")
            found[name] = self._value(depth + 1)
            more = self._goes_on("}")
        return found

    def _array(self, depth: int) -> list[object]:
        found: list[object] = []
        more = self._enters("]")
        while more:
            found.append(self._value(depth + 1))
            more = self._goes_on("]")
        return found

    def _enters(self, closing: str) -> bool:
        """Step behind the opening bracket; where nothing lies in them, behind both."""
        self._at += 1
        if self._next() != closing:
            return True
        self._at += 1
        return False

    def _goes_on(self, closing: str) -> bool:
        """Whether another member follows; steps behind the comma or the bracket."""
        if self._next() == closing:
            self._at += 1
            return False
        self._take(",")
        return True

    def _take(self, mark: str) -> None:
        if self._next() != mark:
            raise JSONDecodeError(f"{mark} is missing", self._text, self._at)
        self._at += 1

    def _next(self) -> str:
        """The next character that is no space; empty at the end."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
