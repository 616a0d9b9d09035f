"""Parser of untrusted text and JSON, with limits. Replaces characters that cannot be stored."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget

_MAX_VALUES: Final = 200_000
"""Maximum number of values in a JSON text (50 ms). A ComfyUI graph of 200 KB has a tenth of it."""

_MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 40


class Unreadable(Exception):
    """Exception for metadata that has a tool's keyword, but not the format of that tool."""


def object_in(text: str | None, budget: WorkBudget) -> dict[str, Any] | None:
    """Parse a JSON object. Return None if `text` is None or does not begin with a brace.

    NaN, infinity and numbers that are too long become None. Lone surrogates become U+FFFD.

    Raises:
        Unreadable: the text is malformed, or it is unusually large or deeply nested.
    """
    if text is None or not text.lstrip().startswith("{"):
        return None
    budget.produce(len(text))
    values = sum(map(text.count, ",[{"))
    if values > _MAX_VALUES:
        raise Unreadable
    budget.look(values)
    try:
        parsed = json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    return clean(parsed)  # type: ignore[no-any-return]  # the copy of an object is an object


def clean(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  (JSON)
    """Copy a JSON value with cleaned strings and None for NaN. Deep nesting raises `Unreadable`."""
    if depth > _MAX_DEPTH:
        raise Unreadable
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(name)): clean(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float) else None


def clean_text(text: str) -> str:
    """Replace characters that UTF-8 (lone surrogates) or PostgreSQL (U+0000) cannot store."""
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def decode_text(data: bytes) -> str:
    """Decode text in an unknown encoding: as UTF-8 if it is valid, else as Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _parse_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None
