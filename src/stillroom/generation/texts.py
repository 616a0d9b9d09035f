"""Text and JSON out of files, read within bounds and made fit for encoders and databases."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from stillroom.work_budget import WorkBudget

_MAX_VALUES: Final = 200_000
"""Some 50 ms of parsing; a ComfyUI graph of 200 KB has a tenth of that."""

_MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 40


class Unreadable(Exception):
    """What stands where a tool keeps its facts is not of the tool's form."""


def json_object(text: str, budget: WorkBudget) -> dict[str, Any]:
    """A JSON object; NaN, infinities and endless numbers in it are null, lone surrogates U+FFFD.

    Raises:
        Unreadable: it is none, or larger or deeper than any tool writes.
        TooMuchWork: the budget is spent.
    """
    budget.produce(len(text))
    values = sum(map(text.count, ",[{"))
    if values > _MAX_VALUES:
        raise Unreadable
    budget.look(values)
    try:
        found = json.loads(
            text, parse_constant=lambda _: None, parse_int=_whole, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    if not isinstance(found, dict):
        raise Unreadable
    return clean(found)  # type: ignore[no-any-return]  # an object stays one


def clean(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  (JSON)
    """A copy of a JSON value whose texts are `clean_text`, and whose numbers JSON can say.

    Raises:
        Unreadable: it is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise Unreadable
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(name)): clean(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [clean(one, depth + 1) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float) else None


def clean_text(text: str) -> str:
    """Without lone surrogates, which UTF-8 lacks, and U+0000, which PostgreSQL refuses."""
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def decoded(data: bytes) -> str:
    """Text of a file that does not say its encoding: UTF-8 if it is that, else Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _finite(digits: str) -> float | None:
    found = float(digits)
    return found if math.isfinite(found) else None
