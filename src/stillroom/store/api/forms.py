"""JSON request bodies: size limits, validation and error messages."""

import asyncio
import concurrent.futures
from collections.abc import Mapping
from typing import ClassVar, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from stillroom.errors import InvalidParameter, TooLarge, UnsupportedMedia
from stillroom.store.http.fields import Fields
from stillroom.store.http.json_objects import TooManyValuesError, parse_object


class JsonForm(BaseModel):
    """Base class of models for JSON bodies. Types are strict, and unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True)

    MAX_BYTES: ClassVar[int]
    EXAMPLE: ClassVar[str]  # for the error message if a body is not JSON

    def __init_subclass__(cls, *, max_bytes: int | None = None, example: str = "") -> None:
        super().__init_subclass__()
        if max_bytes is not None:
            cls.MAX_BYTES, cls.EXAMPLE = max_bytes, example


Form = TypeVar("Form", bound=JsonForm)

_PARSED_INLINE_BYTES: Final = 64 * 1024  # larger bodies are parsed in a thread

# Only one thread, since each parsing thread can hold the GIL for 5 ms and delay the event loop.
_parser: Final = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="json")

_SHOWN_NAME: Final = 64  # characters of an unknown field's name in the error message
_NOT_AN_OBJECT: Final = "must be a JSON object"
_UNKNOWN_FIELD: Final = "unknown field"

# Keys: error types from https://docs.pydantic.dev/latest/errors/validation_errors/
_MESSAGES: Final[Mapping[str, str]] = {
    "bool_type": "must be true or false",
    "dict_type": _NOT_AN_OBJECT,
    "extra_forbidden": _UNKNOWN_FIELD,
    "finite_number": "must be a number that is finite",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "int_type": "must be a whole number",
    "less_than_equal": "must be {le} or less",
    "list_type": "must be an array",
    "literal_error": "must be {expected}",
    "missing": "this field is required",
    "model_attributes_type": _NOT_AN_OBJECT,
    "model_type": _NOT_AN_OBJECT,
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be a string",
    "too_long": "too many items: at most {max_length} are allowed",
    "too_short": "too few items: at least {min_length} is required",
    "value_error": "{error}",
}


async def read_json(request: Request, fields: Fields, form: type[JsonForm]) -> dict[str, object]:
    """Read the request body as a JSON object. Its fields are not validated.

    Raises `InvalidParameter`, `TooLarge` (over `form.MAX_BYTES`) or `UnsupportedMedia` (not JSON).
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
        if len(body) <= _PARSED_INLINE_BYTES:
            return parse_object(bytes(body))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_parser, parse_object, bytes(body))
    except TooManyValuesError as error:
        raise InvalidParameter(f"the JSON object has {error}", at=("body",)) from None
    except ValueError:
        raise InvalidParameter(_NOT_AN_OBJECT, at=("body",)) from None


def validate(form: type[Form], body: dict[str, object]) -> Form:
    """Validate a JSON object as an instance of `form`, or raise `InvalidParameter`."""
    # Pydantic would create an error for each unknown name, of which there may be thousands.
    unknown = next((name for name in body if name not in form.model_fields), None)
    if unknown is not None:
        raise InvalidParameter(_UNKNOWN_FIELD, at=("body", unknown[:_SHOWN_NAME]))
    try:
        return form.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = _MESSAGES.get(first["type"], "does not match the schema in /openapi.json")
        text = message.format_map(first.get("ctx", {}))
        raise InvalidParameter(text, at=("body", *map(str, first["loc"]))) from error
