"""The facts of one generated image, with the names that the API has for them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from stillroom.generation.texts import Unreadable, clean, clean_text, json_object
from stillroom.work_budget import WorkBudget

MAX_SEED: Final = 2**64 - 1
"""The largest that any of the tools has: ComfyUI's."""

_MAX_COUNT: Final = 2**31 - 1
_MAX_DIGITS: Final = 20
_MAX_LORAS: Final = 100
_MAX_ORIGINS: Final = 100


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adaptation of the model.

    Attributes:
        name: As the tool names it.
        weight: 1 is its full strength; None where it is not known.
    """

    name: str
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How an image was made; None where that is not known.

    Attributes:
        tool: The program that made it, such as `ComfyUI`.
        seed: 0 to 2**64 - 1.
        model: As the tool names it, often a file name.
        loras: None where it is not known whether there were any.
        width: Pixels that were asked for; the image may have been enlarged since.
        height: Pixels, likewise.
        derived_from: Paths or SHA-256 of images that it was made from.
        raw: What the tool has written, by the name that it has in the file.
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
        """The fields as JSON has them; safe to encode strictly, in UTF-8."""
        found = {name: getattr(self, name) for name in NAMES}
        if self.loras is not None:
            found["loras"] = [{"name": one.name, "weight": one.weight} for one in self.loras]
        if self.derived_from is not None:
            found["derived_from"] = list(self.derived_from)
        return found

    def over(self, other: "Generation") -> "Generation":
        """These facts, and where one is not known that of `other`."""
        return Generation(
            **{
                name: getattr(other, name) if getattr(self, name) is None else getattr(self, name)
                for name in NAMES
            }
        )

    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return all(getattr(self, name) is None for name in NAMES)


NAMES: Final = tuple(field.name for field in fields(Generation))
"""Of the facts, in the order in which they are shown."""


def generation_of(given: Mapping[str, Any]) -> Generation:
    """Facts in the form of `as_json` from any writer: a value that is no such fact is None.

    Unknown names are left alone, so that an older version reads what a newer one writes.
    """
    raw = given.get("raw")
    return Generation(
        **{name: text(given.get(name)) for name in _TEXTS},
        seed=whole(given.get("seed"), MAX_SEED),
        cfg_scale=number(given.get("cfg_scale")),
        steps=whole(given.get("steps")),
        width=whole(given.get("width")),
        height=whole(given.get("height")),
        loras=_loras(given.get("loras")),
        derived_from=_origins(given.get("derived_from")),
        raw=clean_object(raw) if isinstance(raw, Mapping) else None,
    )


_TEXTS: Final = (
    "tool", "prompt", "negative_prompt", "sampler", "scheduler", "model",
)  # fmt: skip


def text(value: object) -> str | None:
    """A text that every encoder and database takes; None of anything else."""
    return clean_text(value) if isinstance(value, str) else None


def name(value: object) -> str | None:
    """As `text`, without blanks around it; None of an empty one."""
    found = text(value)
    return (found.strip() or None) if found is not None else None


def whole(value: object, most: int = _MAX_COUNT) -> int | None:
    """A whole number of 0 to `most`, also spelled as text; None of anything else."""
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
    """A finite number, also spelled as text; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value if isinstance(value, int | float) else value[:200].strip()[:40])
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def size(value: object) -> tuple[int | None, int | None]:
    """Width and height in a text such as `512x768`."""
    across, _, down = value.partition("x") if isinstance(value, str) else ("", "", "")
    found = whole(across), whole(down)
    return found if None not in found else (None, None)


def lora(called: object, weight: object) -> Lora | None:
    """One of them, if it has a name."""
    found = name(called)
    return Lora(found, number(weight)) if found and found != "None" else None


def clean_object(value: Mapping[str, Any]) -> Mapping[str, object] | None:
    """A JSON object that every encoder takes; None where it is nested too deep."""
    try:
        found = clean(value)
    except Unreadable:
        return None
    return found if isinstance(found, dict) else None


def _loras(value: object) -> tuple[Lora, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    found = (
        lora(one.get("name"), one.get("weight"))
        for one in value[:_MAX_LORAS]
        if isinstance(one, Mapping)
    )
    return tuple(one for one in found if one is not None)


def _origins(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return tuple(clean_text(one) for one in value[:_MAX_ORIGINS] if isinstance(one, str))


def object_in(text_: str | None, budget: WorkBudget) -> dict[str, Any] | None:
    """The JSON object that a text is; None where it does not look like one.

    Raises:
        Unreadable: it begins like one.
        TooMuchWork: the budget is spent.
    """
    if text_ is None or not text_.lstrip().startswith("{"):
        return None
    return json_object(text_, budget)
