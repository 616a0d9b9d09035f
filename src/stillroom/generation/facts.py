"""Generation facts of an image, under the names that the API uses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from stillroom.generation.texts import Unreadable, clean, clean_text, json_object
from stillroom.work_budget import WorkBudget

MAX_SEED: Final = 2**64 - 1
"""Largest seed of any supported tool (ComfyUI)."""

_MAX_COUNT: Final = 2**31 - 1
_MAX_DIGITS: Final = 20
_MAX_LORAS: Final = 100
_MAX_ORIGINS: Final = 100


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adaptation of the model.

    Attributes:
        name: Name that the tool uses.
        weight: 1 is its full strength; None if unknown.
    """

    name: str
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Facts about how an image was made; None means unknown.

    Attributes:
        tool: The program that made it, such as `ComfyUI`.
        seed: 0 to 2**64 - 1.
        model: Name that the tool uses, often a file name.
        loras: None if it is unknown whether any were used.
        width: Requested width in pixels; the image may have been enlarged since.
        height: Requested height in pixels, likewise.
        derived_from: Paths or SHA-256 of images that it was made from.
        raw: Metadata written by the tool, by its name in the file.
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
        """Return the fields as JSON values that encode strictly in UTF-8."""
        values = {name: getattr(self, name) for name in NAMES}
        if self.loras is not None:
            values["loras"] = [{"name": lora_.name, "weight": lora_.weight} for lora_ in self.loras]
        if self.derived_from is not None:
            values["derived_from"] = list(self.derived_from)
        return values

    def over(self, other: "Generation") -> "Generation":
        """Return these facts, with unknown ones filled in from `other`."""
        return Generation(
            **{
                name: getattr(other, name) if getattr(self, name) is None else getattr(self, name)
                for name in NAMES
            }
        )

    def is_empty(self) -> bool:
        """Return whether all facts are unknown."""
        return all(getattr(self, name) is None for name in NAMES)


NAMES: Final = tuple(field.name for field in fields(Generation))
"""Names of the facts, in display order."""


def generation_of(values: Mapping[str, Any]) -> Generation:
    """Parse facts in the form of `as_json` from any writer; invalid values become None.

    Unknown names are ignored, so that older versions can read what newer versions write.
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
    """Return a text that every encoder and database accepts; None for anything else."""
    return clean_text(value) if isinstance(value, str) else None


def name(value: object) -> str | None:
    """Return a cleaned and stripped text, or None if it is empty or not a text."""
    cleaned = text(value)
    return (cleaned.strip() or None) if cleaned is not None else None


def whole(value: object, most: int = _MAX_COUNT) -> int | None:
    """Convert a number or its decimal text to an integer in 0 to `most`; None for anything else."""
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
    """Convert a number or its text to a finite float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        converted = float(value if isinstance(value, int | float) else value[:200].strip()[:40])
    except (ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


def size(value: object) -> tuple[int | None, int | None]:
    """Parse width and height from a text such as `512x768`."""
    across, _, down = value.partition("x") if isinstance(value, str) else ("", "", "")
    dimensions = whole(across), whole(down)
    return dimensions if None not in dimensions else (None, None)


def lora(value: object, weight: object) -> Lora | None:
    """Return a LoRA, or None if it has no name."""
    cleaned = name(value)
    return Lora(cleaned, number(weight)) if cleaned and cleaned != "None" else None


def clean_object(value: Mapping[str, Any]) -> Mapping[str, object] | None:
    """Copy a JSON object so that every encoder accepts it; None if it is nested too deeply."""
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
    """Parse a text as `json_object` does; None if it does not begin like a JSON object."""
    if text_ is None or not text_.lstrip().startswith("{"):
        return None
    return json_object(text_, budget)
