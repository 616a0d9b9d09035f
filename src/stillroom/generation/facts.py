"""Generation parameters ("facts") of an image, with the field names that the API uses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.texts import Unreadable, clean, clean_text, json_object

MAX_SEED: Final = 2**64 - 1
"""Largest seed of any supported tool (ComfyUI)."""

_MAX_COUNT: Final = 2**31 - 1
_MAX_DIGITS: Final = 20
_MAX_LORAS: Final = 100
_MAX_ORIGINS: Final = 100


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA (low-rank adaptation of the model).

    Attributes:
        name: Name of the LoRA in the tool that made the image.
        weight: Strength, where 1.0 is full strength; None if unknown.
    """

    name: str
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Generation parameters of an image. Each is None if it is unknown.

    Attributes:
        tool: Program that made the image, such as `ComfyUI`.
        seed: Integer from 0 to 2**64 - 1.
        model: Name of the model in this program, often a file name.
        loras: LoRAs used; None if it is unknown whether any were used.
        width: Requested width in pixels; the image may have been enlarged later.
        height: Requested height in pixels; the image may have been enlarged later.
        derived_from: Paths or SHA-256 hashes of the images from which this one was made.
        raw: Original metadata of the program, by keyword in the file.
    """

    tool: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    model: str | None = None
    loras: tuple[Lora, ...] | None = None
    width: int | None = None
    height: int | None = None
    derived_from: tuple[str, ...] | None = None
    raw: Mapping[str, object] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a dict that can be serialized as JSON in UTF-8."""
        values = {name: getattr(self, name) for name in NAMES}
        if self.loras is not None:
            values["loras"] = [{"name": lora_.name, "weight": lora_.weight} for lora_ in self.loras]
        if self.derived_from is not None:
            values["derived_from"] = list(self.derived_from)
        return values

    def over(self, other: "Generation") -> "Generation":
        """Return a copy in which unknown parameters are filled in from `other`."""
        return Generation(
            **{
                name: getattr(other, name) if getattr(self, name) is None else getattr(self, name)
                for name in NAMES
            }
        )

    def is_empty(self) -> bool:
        """Return whether all parameters are unknown."""
        return all(getattr(self, name) is None for name in NAMES)


NAMES: Final = tuple(field.name for field in fields(Generation))
"""Names of the parameters, in display order."""


def generation_of(values: Mapping[str, Any]) -> Generation:
    """Parse an untrusted JSON object as returned by `as_json`. Invalid values become None.

    Unknown names are ignored, so that older versions can read metadata from newer versions.
    """
    raw = values.get("raw")
    return Generation(
        **{name: text(values.get(name)) for name in _TEXTS},
        seed=whole(values.get("seed"), MAX_SEED),
        cfg_scale=number(values.get("cfg_scale")),
        steps=whole(values.get("steps")),
        width=whole(values.get("width")),
        height=whole(values.get("height")),
        loras=_loras(values.get("loras")),
        derived_from=_origins(values.get("derived_from")),
        raw=clean_object(raw) if isinstance(raw, Mapping) else None,
    )


_TEXTS: Final = (
    "tool", "prompt", "negative_prompt", "sampler", "scheduler", "model",
)  # fmt: skip


def text(value: object) -> str | None:
    """Return a string without characters that UTF-8 or PostgreSQL reject; None if not a string."""
    return clean_text(value) if isinstance(value, str) else None


def name(value: object) -> str | None:
    """Return a string, cleaned as by `text` and stripped; None if it is empty or not a string."""
    cleaned = text(value)
    return (cleaned.strip() or None) if cleaned is not None else None


def whole(value: object, most: int = _MAX_COUNT) -> int | None:
    """Convert a number or numeric string to an integer; None if it is not from 0 to `most`."""
    if isinstance(value, str):
        value = value.strip()
        digits = value.removesuffix(".0")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            return None
        value = int(digits)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= most else None


def number(value: object) -> float | None:
    """Convert a number or numeric string to a finite float; None if that is not possible."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        converted = float(value if isinstance(value, int | float) else value[:200].strip()[:40])
    except (ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def size(value: object) -> tuple[int | None, int | None]:
    """Parse width and height from a string such as `512x768`; (None, None) if it is malformed."""
    across, _, down = value.partition("x") if isinstance(value, str) else ("", "", "")
    dimensions = whole(across), whole(down)
    return dimensions if None not in dimensions else (None, None)


def lora(value: object, weight: object) -> Lora | None:
    """Return a `Lora`, or None if the name is empty or not a string."""
    cleaned = name(value)
    return Lora(cleaned, number(weight)) if cleaned and cleaned != "None" else None


def clean_object(value: Mapping[str, Any]) -> Mapping[str, object] | None:
    """Copy a JSON object with all strings cleaned; None if it is nested too deeply."""
    try:
        cleaned = clean(value)
    except Unreadable:
        return None
    return cleaned if isinstance(cleaned, dict) else None


def _loras(value: object) -> tuple[Lora, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    loras = (
        lora(item.get("name"), item.get("weight"))
        for item in value[:_MAX_LORAS]
        if isinstance(item, Mapping)
    )
    return tuple(lora_ for lora_ in loras if lora_ is not None)


def _origins(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return tuple(clean_text(origin) for origin in value[:_MAX_ORIGINS] if isinstance(origin, str))


def object_in(text_: str | None, budget: WorkBudget) -> dict[str, Any] | None:
    """Parse a string with `json_object`; None if it does not begin with a brace."""
    if text_ is None or not text_.lstrip().startswith("{"):
        return None
    return json_object(text_, budget)
