"""What is wrong with a field of a JSON body, in one sentence of ours."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

Context = Mapping[str, Any]

_NO_OBJECT: Final = "not a JSON object"

# By the names of https://docs.pydantic.dev/latest/errors/validation_errors/
_SENTENCES: Final[Mapping[str, str | Callable[[Context], str]]] = {
    "bool_type": "neither true nor false",
    "dict_type": _NO_OBJECT,
    "extra_forbidden": "no such field",
    "greater_than_equal": lambda given: f"{given['ge']} or more",
    "int_type": "not a whole number",
    "less_than_equal": lambda given: f"{given['le']} or less",
    "list_type": "not a list",
    "literal_error": lambda given: f"one of {given['expected']}",
    "missing": "missing",
    "model_attributes_type": _NO_OBJECT,
    "model_type": _NO_OBJECT,
    "string_too_long": lambda given: f"{given['max_length']} characters at most",
    "string_type": "not a text",
    "too_long": lambda given: f"at most {given['max_length']}",
    "too_short": lambda given: f"at least {given['min_length']}",
    "value_error": lambda given: str(given["error"]),
}


def sentence_of(fault: ErrorDetails) -> str:
    """What to tell the caller about a fault that Pydantic has found."""
    found = _SENTENCES.get(fault["type"], "not of the form that /openapi.json tells")
    return found if isinstance(found, str) else found(fault.get("ctx", {}))
