"""Conversion of untrusted values, texts and JSON to generation parameters ("facts")."""

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from stillroom.formats.work_budget import WorkBudget
from stillroom.wire.generation import Generation, Lora

MAX_SEED: Final = 2**64 - 1  # largest seed that any of the supported tools (ComfyUI) uses
_MAX_COUNT: Final = 2**31 - 1
_MAX_DIGITS: Final = 20
MAX_ITEMS: Final = 100  # maximum number of LoRAs or origins
MAX_ORIGIN: Final = 1024  # maximum number of characters of an origin. No path is longer.
_MAX_VALUES: Final = 200_000  # in a JSON text, parsed in 50 ms; a ComfyUI graph may have 20,000
_MAX_DEPTH: Final = 64
_MAX_JSON_DIGITS: Final = 40

T = TypeVar("T")


class Unreadable(Exception):
    """Exception for metadata that has a tool's keyword, but not the tool's format."""


def generation_of(values: Mapping[str, Any]) -> Generation:
    """Convert an untrusted object in the form of `Generation.as_json` to a `Generation`.

    Invalid values become None. Unknown names are ignored, since newer versions may write them.
    """
    parsers = _PARSERS | dict.fromkeys(("tool", "sampler", "scheduler", "model"), text)
    loras = items_in(values.get("loras"), object)
    objects = (item for item in loras or () if isinstance(item, Mapping))
    pairs = ((item.get("name"), item.get("weight")) for item in objects)
    origins = items_in(values.get("derived_from"), str)
    if origins is not None:
        origins = [origin for origin in origins if len(origin) <= MAX_ORIGIN]
    raw = None
    with contextlib.suppress(Unreadable):  # nested too deeply
        raw = clean(values["raw"]) if isinstance(values.get("raw"), Mapping) else None
    return Generation(
        **{field: parse(values.get(field)) for field, parse in parsers.items()},
        loras=None if loras is None else _loras_of(pairs),
        derived_from=None if origins is None else tuple(map(clean_text, origins)),
        raw=raw,
    )


# Names that a tool uses for the fields of `Generation`, and for `size` (such as 512x768).
Names = Mapping[str, str | tuple[str, ...]]


def names_of(same: str = "", **others: str | tuple[str, ...]) -> Names:
    """Map fields to a tool's names for them. `same` lists fields whose name the tool also uses."""
    return {**{name: name for name in same.split()}, **others}


def parse_facts(
    values: Mapping[str, Any],
    names: Names,
    raw: Mapping[str, object],
    *,
    loras: Iterable[tuple[object, object]] | None = None,
    **known: Any,  # noqa: ANN401  (fields of `Generation`, which were parsed already)
) -> Generation:
    """Convert an untrusted object that a tool has written to a `Generation`.

    `loras` are pairs of name and weight. `known` contains fields that are already parsed.
    """
    for field, keys in names.items():
        listed = (keys,) if isinstance(keys, str) else keys
        missing = (None, "") if field in ("sampler", "scheduler") else (None,)
        value = next((values[key] for key in listed if values.get(key) not in missing), None)
        if field == "size":
            known["width"], known["height"] = size(value)
        else:
            known[field] = _PARSERS[field](value)
    return Generation(raw=raw, loras=None if loras is None else _loras_of(loras), **known)


def text(value: object) -> str | None:
    """Return the cleaned string (see `clean_text`), or None for a value of another type."""
    return clean_text(value) if isinstance(value, str) else None


def name(value: object) -> str | None:
    """Return the cleaned and stripped string, or None if it is empty or not a string."""
    return (text(value) or "").strip() or None


def whole(value: object, most: int = _MAX_COUNT) -> int | None:
    """Convert a number or numeric string to an integer; None if it is not from 0 to `most`."""
    if isinstance(value, str):
        digits = value.strip().removesuffix(".0")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
        value = int(digits) if is_number else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= most else None


def number(value: object) -> float | None:
    """Convert a number or numeric string to a float; None if that is impossible or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        converted = float(value if isinstance(value, int | float) else value[:200].strip()[:40])
    except (ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def size(value: object) -> tuple[int | None, int | None]:
    """Parse a string such as `512x768`. Return width and height, or (None, None) if malformed."""
    across, _, down = value.partition("x") if isinstance(value, str) else ("", "", "")
    width, height = whole(across), whole(down)
    return (None, None) if None in (width, height) else (width, height)


_PARSERS: Final[dict[str, Callable[[object], Any]]] = {
    "prompt": text,
    "negative_prompt": text,
    "seed": lambda value: whole(value, MAX_SEED),
    "steps": whole,
    "cfg_scale": number,
    **dict.fromkeys(("sampler", "scheduler", "model"), name),
    **dict.fromkeys(("width", "height"), whole),
}
"""Functions that convert an untrusted value to the type of a parameter, or return None."""


def lora(value: object, weight: object) -> Lora | None:
    """Convert untrusted values to a `Lora`, or return None if they do not contain a name."""
    cleaned = name(value)
    return Lora(cleaned, number(weight)) if cleaned and cleaned != "None" else None


def _loras_of(pairs: Iterable[tuple[object, object]]) -> tuple[Lora, ...]:
    return tuple(filter(None, itertools.starmap(lora, pairs)))


def items_in(value: object, kind: type[T]) -> list[T] | None:
    """Return the items of type `kind` among a list's first 100. Return None if it is no list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return [item for item in value[:MAX_ITEMS] if isinstance(item, kind)]


def object_in(text: object, budget: WorkBudget) -> dict[str, Any] | None:
    """Parse and `clean` a JSON object. Return None if `text` does not begin with a brace.

    Raises `Unreadable` if the text is malformed, unusually large or deeply nested.
    """
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    budget.produce(len(text))
    values = sum(map(text.count, ",[{"))
    if values > _MAX_VALUES:
        raise Unreadable
    budget.look(values)
    try:
        parsed = json.loads(
            text, parse_int=lambda digits: int(digits) if len(digits) <= _MAX_JSON_DIGITS else None
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    return clean(parsed)  # type: ignore[no-any-return]  # the copy of an object is an object


def required_object(text: object, budget: WorkBudget) -> dict[str, Any]:
    """Parse a JSON object like `object_in`, but raise `Unreadable` if there is none."""
    parsed = object_in(text, budget)
    if parsed is None:
        raise Unreadable
    return parsed


def clean(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  (JSON)
    """Copy a JSON value with clean strings. NaN becomes None. Deep nesting raises `Unreadable`."""
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
    """Replace lone surrogates (invalid in UTF-8) and U+0000 (invalid in PostgreSQL) by U+FFFD."""
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def decode_text(data: bytes) -> str:
    """Decode text as UTF-8 or, if it is not valid UTF-8, as Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
