"""JSON response with the number of images for each model, LoRA, sampler, tool, day and tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from stillroom.wire.shown import Shown

COUNTED_KINDS: Final = ("model", "lora", "sampler", "tool", "day")
"""Names of the values that are counted for every token. Only some tokens may see tags."""


@dataclass(frozen=True, slots=True)
class FacetCount:
    """Number of images that have a value, such as the name of a model."""

    value: Annotated[str, Shown(examples=("sd_xl_base_1.0.safetensors",))]
    count: Annotated[int, Shown("images", (12,))]


@dataclass(frozen=True, slots=True)
class Facets:
    """Number of images with each value, the most frequent values first.

    `day` has dates such as `2026-11-28`. `tag` is None if the token may not see the tags.
    """

    model: Sequence[FacetCount]
    lora: Sequence[FacetCount]
    sampler: Sequence[FacetCount]
    tool: Sequence[FacetCount]
    day: Annotated[Sequence[FacetCount], Shown("days of the saves (UTC), newest first")]
    counted: Annotated[int, Shown("images that were counted", (12_345,))]
    complete: Annotated[bool, Shown("false if more images match than were counted")]
    tag: Annotated[
        Sequence[FacetCount] | None,
        Shown("missing if the token may not see the library's tags"),
    ] = None
