"""Query parameters: what one is, and how a query is read strictly from its raw bytes."""

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from stillroom.errors import InvalidParameter
from stillroom.paths import decode_query_text

DEFAULT_LIMIT: Final = 100
MAX_TIMES: Final = 50
"""How often a parameter may be given that may be given several times."""

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameter(Generic[Value_co]):
    """A query parameter.

    Attributes:
        name: As it stands in the query.
        parse: Its value, from the decoded text and the place that errors name.
        absent: Its value where it is not given.
        schema: Its JSON schema in the OpenAPI document.
        description: The same document's text.
    """

    name: str
    parse: Callable[[str, Place], Value_co]
    absent: Value_co
    schema: Mapping[str, object]
    description: str = ""

    def read(self, given: Mapping[str, str]) -> Value_co:
        """Its value in a request.

        Raises:
            InvalidInput: the text is not of the form that `parse` takes.
        """
        text = given.get(self.name)
        return self.absent if text is None else self.parse(text, ("query", self.name))


def read_query(raw: bytes, parameters: Iterable[Parameter[object]]) -> dict[str, str]:
    """The texts of those `parameters` that a query has; unknown ones are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, in whatever parameter.
        InvalidParameter: one of these is given twice.
    """
    names = {parameter.name for parameter in parameters}
    given: dict[str, str] = {}
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        name = decode_query_text(raw_name, at=("query",))
        if name not in names:
            continue
        if name in given:
            raise InvalidParameter("given more than once", at=("query", name))
        given[name] = decode_query_text(raw_value, at=("query", name))
    return given


def read_texts(raw: bytes, parameter: Parameter[tuple[str, ...]]) -> tuple[str, ...]:
    """The texts of a parameter that may be given several times, in order.

    Raises:
        InvalidPath: text that is not valid UTF-8, in whatever parameter.
        InvalidParameter: it is given more often than counts.
    """
    at = ("query", parameter.name)
    found = []
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        if decode_query_text(raw_name, at=("query",)) == parameter.name:
            found.append(decode_query_text(raw_value, at=at))
            if len(found) > MAX_TIMES:
                raise InvalidParameter(f"given more than {MAX_TIMES} times", at=at)
    return tuple(found)


def resource_id(text: str, at: Place) -> uuid.UUID:
    """A resource's id in its one spelling, but for the case of its letters (RFC 9562, 4).

    Raises:
        InvalidParameter: it is none.
    """
    if not _UUID.fullmatch(text):
        raise InvalidParameter("must be a UUID", at=at)
    return uuid.UUID(text)


def _limit(max_limit: int) -> Callable[[str, Place], int]:
    def parse(text: str, at: Place) -> int:
        digits = text.lstrip("0")
        if not _NUMBER.fullmatch(text) or not digits:
            raise InvalidParameter("must be a whole number, 1 or more", at=at)
        return min(int(digits[:6]), max_limit)  # six digits are more than counts

    return parse


def visible_name(text: str, at: Place) -> str:
    """A short text without blanks, such as a content type.

    Raises:
        InvalidParameter: it is none.
    """
    if not _VISIBLE.fullmatch(text):
        raise InvalidParameter("must be 1 to 255 visible ASCII characters", at=at)
    return text


def moment(text: str, at: Place) -> datetime:
    """A time with its zone (RFC 3339).

    Raises:
        InvalidParameter: it is none.
    """
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidParameter("must be a time such as 2026-11-24T18:00:00Z", at=at)


def _one_of(*allowed: str) -> Callable[[str, Place], str]:
    def parse(text: str, at: Place) -> str:
        if text not in allowed:
            raise InvalidParameter(f"must be one of {', '.join(allowed)}", at=at)
        return text

    return parse


def choice(name: str, *allowed: str, absent: str | None, description: str) -> Parameter[Any]:
    """One of some words."""
    schema: dict[str, object] = {"type": "string", "enum": list(allowed)}
    if absent is None:
        schema = {"anyOf": [schema, {"type": "null"}]}
    else:
        schema["default"] = absent
    return Parameter(name, _one_of(*allowed), absent, schema, description)


def or_null(**schema: object) -> Mapping[str, object]:
    """This JSON schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def optional(
    name: str, parse: Callable[[str, Place], Value], description: str, **schema: object
) -> Parameter[Value | None]:
    """A parameter that is None where it is not given."""
    return Parameter(name, parse, None, or_null(**schema), description)


def limit_parameter(things: str, max_limit: int) -> Parameter[int]:
    """How many of some things are on a page."""
    return Parameter(
        "limit",
        _limit(max_limit),
        DEFAULT_LIMIT,
        {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
        f"{things} on a page; over {max_limit:,} counts as {max_limit:,}.",
    )
