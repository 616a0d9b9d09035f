"""JSON bodies: read within bounds, and validated with error messages of our own."""

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from stillroom.errors import InvalidParameter, TooLarge, UnsupportedMedia
from stillroom.http.fields import Fields
from stillroom.http.json_objects import TooManyValuesError, parse_object


class JsonForm(BaseModel):
    """What a JSON body must be: these fields, of these very types, and no others.

    Attributes:
        MAX_BYTES: Of the body.
        EXAMPLE: Shown to a client that sends something else.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    MAX_BYTES: ClassVar[int]
    EXAMPLE: ClassVar[str]


Form = TypeVar("Form", bound=JsonForm)
Context = Mapping[str, Any]

_PARSED_AT_ONCE_BYTES: Final = 64 * 1024
"""A larger body is parsed in a thread, while the event loop serves others."""

_parsing: Final = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="json")
"""One: each more that computes makes the event loop wait for another slice of 5 ms."""

_SHOWN_NAME: Final = 64
"""Of a name that is not known, so many characters are shown."""

_NOT_AN_OBJECT: Final = "must be a JSON object"
_UNKNOWN_FIELD: Final = "unknown field"

# By the names of https://docs.pydantic.dev/latest/errors/validation_errors/
_MESSAGES: Final[Mapping[str, str | Callable[[Context], str]]] = {
    "bool_type": "must be true or false",
    "dict_type": _NOT_AN_OBJECT,
    "extra_forbidden": _UNKNOWN_FIELD,
    "finite_number": "must be a number that is finite",
    "float_type": "must be a number",
    "greater_than": lambda given: f"must be more than {given['gt']}",
    "greater_than_equal": lambda given: f"must be {given['ge']} or more",
    "int_type": "must be a whole number",
    "less_than_equal": lambda given: f"must be {given['le']} or less",
    "list_type": "must be an array",
    "literal_error": lambda given: f"must be {given['expected']}",
    "missing": "this field is required",
    "model_attributes_type": _NOT_AN_OBJECT,
    "model_type": _NOT_AN_OBJECT,
    "string_pattern_mismatch": lambda given: f"must match {given['pattern']}",
    "string_too_long": lambda given: f"must have at most {given['max_length']} characters",
    "string_too_short": lambda given: f"must have at least {given['min_length']} characters",
    "string_type": "must be a string",
    "too_long": lambda given: f"too many items: at most {given['max_length']} are allowed",
    "too_short": lambda given: f"too few items: at least {given['min_length']} is required",
    "value_error": lambda given: str(given["error"]),
}


async def read_json(request: Request, fields: Fields, form: type[JsonForm]) -> dict[str, object]:
    """The JSON object that a request's body is.

    Ask for it when it is known that the sender may do what the operation does.

    Raises:
        InvalidParameter: the body is none, or holds more than any operation takes.
        TooLarge: it is larger than `form` allows.
        UnsupportedMedia: it says it is something else.
    """
    too_large = TooLarge(
        f"the request body is larger than {form.MAX_BYTES} bytes: send several smaller requests"
    )
    if int(fields.get("content-length", "0")) > form.MAX_BYTES:
        raise too_large
    if fields.get("content-type", "").partition(";")[0].strip(" \t").lower() != "application/json":
        raise UnsupportedMedia(f"send {form.EXAMPLE} with Content-Type: application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > form.MAX_BYTES:
            raise too_large
    try:
        if len(body) <= _PARSED_AT_ONCE_BYTES:
            return parse_object(bytes(body))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_parsing, parse_object, bytes(body))
    except TooManyValuesError as error:
        raise InvalidParameter(f"the object holds {error}", at=("body",)) from None
    except ValueError:
        raise InvalidParameter(_NOT_AN_OBJECT, at=("body",)) from None


def in_form(form: type[Form], given: dict[str, object]) -> Form:
    """A JSON object as the `form` that the OpenAPI document has for it.

    Raises:
        InvalidParameter: it is not of this form; says where.
    """
    # Pydantic would write a whole error for each of thousands of names, where one is enough.
    unknown = next((name for name in given if name not in form.model_fields), None)
    if unknown is not None:
        raise InvalidParameter(_UNKNOWN_FIELD, at=("body", unknown[:_SHOWN_NAME]))
    try:
        return form.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        at = ("body", *(str(part) for part in first["loc"]))
        raise InvalidParameter(_message(first), at=at) from error


def _message(found: ErrorDetails) -> str:
    message = _MESSAGES.get(found["type"], "does not match the schema in /openapi.json")
    return message if isinstance(message, str) else message(found.get("ctx", {}))
