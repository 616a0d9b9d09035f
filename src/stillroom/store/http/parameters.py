"""Query parameters of operations. Each operation declares them as fields of a dataclass."""

import functools
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar, get_type_hints
from urllib.parse import quote, unquote, urlencode

from stillroom.errors import InvalidInput, InvalidParameter
from stillroom.paths import ImagePrefix, decode_query_text

DEFAULT_LIMIT: Final = 100
EVERY_PATH: Final = ImagePrefix("")

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

Query = TypeVar("Query")
Texts = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Annotation of a dataclass field that is a query parameter.

    A missing parameter has the default value of its field.
    """

    parse: Callable[[str], object]  # converts a value; may raise ValueError or InvalidInput
    schema: Mapping[str, object]  # JSON schema for the OpenAPI document
    description: str = ""
    name: str = ""  # name in the query; by default, the name of the field
    max_times: int = 1  # maximum number of values; if it is more than 1, the field is a tuple

    def read(self, texts: list[str]) -> Any:  # noqa: ANN401  (the type of the field)
        """Convert the values in the query to the value of the field. May raise `InvalidInput`."""
        try:
            if self.max_times == 1:
                return self.parse(texts[0])
            return tuple(map(self.parse, texts))
        except InvalidInput as error:
            error.at = ("query", self.name)
            raise
        except ValueError as error:
            raise InvalidParameter(str(error), at=("query", self.name)) from None


@functools.cache
def _fields(kind: type) -> Mapping[str, Parameter | type]:
    declared = dict[str, Parameter | type]()
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = declared[field.name] = hints[field.name]
        if not isinstance(hint, type):
            parameter: Parameter = hint.__metadata__[0]
            schema = or_null(**parameter.schema) if field.default is None else parameter.schema
            name = parameter.name or field.name
            declared[field.name] = replace(parameter, name=name, schema=schema)
    return declared


@functools.cache
def parameters_of(kind: type) -> dict[str, Parameter]:
    """Return the query parameters that the dataclass `kind` declares, by name."""
    parameters: dict[str, Parameter] = {}
    for parameter in _fields(kind).values():
        if isinstance(parameter, type):
            parameters |= parameters_of(parameter)
        else:
            parameters[parameter.name] = parameter
    return parameters


def read_query(raw: bytes, kind: type[Query]) -> Query:
    """Parse a raw query into an instance of the dataclass `kind`. Ignore unknown parameters."""
    return build(kind, read_texts(raw, kind))


def build(kind: type[Query], texts: Texts) -> Query:
    """Create an instance of the dataclass `kind` from the values that `read_texts` returns."""
    values: dict[str, Any] = {}
    table: type = kind  # mypy does not consider `type[Query]` hashable
    for field, parameter in _fields(table).items():
        if isinstance(parameter, type):
            values[field] = build(parameter, texts)
        elif parameter.name in texts:
            values[field] = parameter.read(texts[parameter.name])
    return kind(**values)


def read_texts(raw: bytes, kind: type, *, has_foreign_names: bool = False) -> Texts:
    """Return the decoded values of the parameters that the dataclass `kind` declares, by name.

    A name that is not UTF-8 is ignored if `has_foreign_names` is set. Otherwise, it is an error.
    """
    parameters = parameters_of(kind)
    texts: Texts = {}
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        at = ("query",)
        name = unquote(raw_name) if has_foreign_names else decode_query_text(raw_name, at=at)
        if name not in parameters:
            continue
        values = texts.setdefault(name, [])
        max_times = parameters[name].max_times
        if len(values) == max_times:
            often = "once" if max_times == 1 else f"{max_times} times"
            raise InvalidParameter(f"must be given at most {often}", at=("query", name))
        values.append(decode_query_text(raw_value, at=("query", name)))
    return texts


def link_after(last: object, raw: bytes, kind: type) -> str:
    """Return a `Link` header (RFC 8288) to the next page. `raw` is the query of this page."""
    texts = read_texts(raw, kind) | {"start_after": [str(last)]}
    return f'<?{urlencode(texts, doseq=True, safe="", quote_via=quote)}>; rel="next"'


def resource_id(text: str, at: tuple[str, ...] = ()) -> uuid.UUID:
    """Parse the id of a resource, a UUID with hyphens (RFC 9562). May raise `InvalidParameter`."""
    if not _UUID.fullmatch(text):
        raise InvalidParameter("must be a UUID", at=at)
    return uuid.UUID(text)


def _visible(text: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise ValueError("must be 1 to 255 visible ASCII characters")
    return text


def _moment(text: str) -> datetime:
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a time such as 2026-11-24T18:00:00Z")


def moment(description: str) -> Parameter:
    """Return a parameter for a time with a time zone (RFC 3339)."""
    return Parameter(_moment, {"type": "string", "format": "date-time"}, description)


def choice(*allowed: str, description: str, **schema: object) -> Parameter:
    """Return a parameter whose value must be one of the texts in `allowed`."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return Parameter(parse, {"type": "string", "enum": list(allowed), **schema}, description)


def boolean(description: str) -> Parameter:
    """Return a parameter whose value is `true` or `false`."""

    def parse(text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"

    return Parameter(parse, {"type": "boolean"}, description)


def or_null(**schema: object) -> Mapping[str, object]:
    """Return a JSON schema that allows null in addition to `schema`."""
    return {"anyOf": [schema, {"type": "null"}]}


def page_size(things: str, max_limit: int) -> Parameter:
    """Return a parameter for the page size of a listing. `things` names what is listed."""

    def parse(text: str) -> int:
        digits = text.lstrip("0")
        if not _NUMBER.fullmatch(text) or not digits:
            raise ValueError("must be a whole number, 1 or more")
        return min(int(digits[:6]), max_limit)  # six digits exceed every limit

    schema = {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT}
    description = f"{things} on a page. A value over {max_limit:,} means {max_limit:,}."
    return Parameter(parse, schema, description)


def repeatable(
    name: str, description: str, parse: Callable[[str], object] = str, max_times: int = 50
) -> Parameter:
    """Return a parameter that may occur several times, with a tuple as its value."""
    schema = {"type": "array", "items": {"type": "string"}, "maxItems": max_times}
    return Parameter(parse, schema, description, name, max_times)


def visible_name(description: str = "") -> Parameter:
    """Return a parameter for up to 255 visible ASCII characters, such as a content type."""
    return Parameter(_visible, {"type": "string", "pattern": "^[!-~]{1,255}$"}, description)


def path_prefix(description: str) -> Parameter:
    """Return a parameter for a prefix of image paths."""
    return Parameter(ImagePrefix.parse, {"type": "string", "default": ""}, description)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteParameters:
    """Query parameters of deletions."""

    purge: Annotated[bool, boolean("`true` deletes for good, without the trash.")] = False


Prefix = Annotated[ImagePrefix, path_prefix("Literal text that paths begin with.")]
ContentType = Annotated[str | None, visible_name("Such as `image/png`.")]
