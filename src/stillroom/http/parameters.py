"""Descriptions of query parameters, and strict parsing of raw queries."""

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
"""Maximum number of values of a repeatable parameter."""

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
        name: Name in the query.
        parse: Converts the decoded text. The second argument is the location for errors.
        absent: Value of a missing parameter.
        schema: JSON schema for the OpenAPI document.
        description: Description in the OpenAPI document.
    """

    name: str
    parse: Callable[[str, Place], Value_co]
    absent: Value_co
    schema: Mapping[str, object]
    description: str = ""

    def read(self, texts: Mapping[str, str]) -> Value_co:
        """Return this parameter's value. `texts` contains decoded texts by parameter name.

        Raises:
            InvalidInput: the text is invalid.
        """
        text = texts.get(self.name)
        return self.absent if text is None else self.parse(text, ("query", self.name))


def read_query(raw: bytes, parameters: Iterable[Parameter[object]]) -> dict[str, str]:
    """Return the decoded texts of `parameters` by name. Other parameters are ignored.

    Raises:
        InvalidPath: the name or text of any parameter is not valid UTF-8.
        InvalidParameter: one of `parameters` is repeated.
    """
    names = {parameter.name for parameter in parameters}
    texts: dict[str, str] = {}
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        name = decode_query_text(raw_name, at=("query",))
        if name not in names:
            continue
        if name in texts:
            raise InvalidParameter("given more than once", at=("query", name))
        texts[name] = decode_query_text(raw_value, at=("query", name))
    return texts


def read_texts(raw: bytes, parameter: Parameter[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all decoded texts for a repeatable parameter, in order.

    Raises:
        InvalidPath: the text, or the name of any parameter, is not valid UTF-8.
        InvalidParameter: the parameter has more than `MAX_TIMES` values.
    """
    at = ("query", parameter.name)
    texts = []
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        if decode_query_text(raw_name, at=("query",)) == parameter.name:
            texts.append(decode_query_text(raw_value, at=at))
            if len(texts) > MAX_TIMES:
                raise InvalidParameter(f"given more than {MAX_TIMES} times", at=at)
    return tuple(texts)


def resource_id(text: str, at: Place) -> uuid.UUID:
    """Parse a resource id: a UUID with hyphens, in upper or lower case (RFC 9562, 4).

    Raises:
        InvalidParameter: the text is not a UUID.
    """
    if not _UUID.fullmatch(text):
        raise InvalidParameter("must be a UUID", at=at)
    return uuid.UUID(text)


def _limit(max_limit: int) -> Callable[[str, Place], int]:
    def parse(text: str, at: Place) -> int:
        digits = text.lstrip("0")
        if not _NUMBER.fullmatch(text) or not digits:
            raise InvalidParameter("must be a whole number, 1 or more", at=at)
        return min(int(digits[:6]), max_limit)  # six digits exceed every limit

    return parse


def visible_name(text: str, at: Place) -> str:
    """Check and return a short text without spaces, such as a content type.

    Raises:
        InvalidParameter: the text has invalid characters, or more than 255.
    """
    if not _VISIBLE.fullmatch(text):
        raise InvalidParameter("must be 1 to 255 visible ASCII characters", at=at)
    return text


def moment(text: str, at: Place) -> datetime:
    """Parse a time with a time zone (RFC 3339).

    Raises:
        InvalidParameter: the text is not a valid time.
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
    """Return a parameter that accepts only the `allowed` values."""
    schema: dict[str, object] = {"type": "string", "enum": list(allowed)}
    if absent is None:
        schema = {"anyOf": [schema, {"type": "null"}]}
    else:
        schema["default"] = absent
    return Parameter(name, _one_of(*allowed), absent, schema, description)


def or_null(**schema: object) -> Mapping[str, object]:
    """Return a JSON schema that also allows null."""
    return {"anyOf": [schema, {"type": "null"}]}


def optional(
    name: str, parse: Callable[[str, Place], Value], description: str, **schema: object
) -> Parameter[Value | None]:
    """Return an optional parameter, whose value is None if it is missing."""
    return Parameter(name, parse, None, or_null(**schema), description)


def limit_parameter(things: str, max_limit: int) -> Parameter[int]:
    """Return a parameter for the page size of a listing; `things` is used in its description."""
    return Parameter(
        "limit",
        _limit(max_limit),
        DEFAULT_LIMIT,
        {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
        f"{things} on a page. A value over {max_limit:,} means {max_limit:,}.",
    )
