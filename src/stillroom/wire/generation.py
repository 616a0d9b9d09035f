"""Generation parameters of an image, and its AI mark."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Final, Literal

from stillroom.wire.shown import PATH_EXAMPLE, SHA256_EXAMPLE, Shown

AiMark = Literal["c2pa", "iptc", "both", "none"]
"""AI mark: `c2pa` (C2PA manifest, not verified), `iptc` (DigitalSourceType), `both` or `none`."""


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA (low-rank adaptation, an extension of a model) with which an image was made."""

    name: Annotated[str, Shown(examples=("ink-lines",))]
    weight: Annotated[float | None, Shown("1 is its full strength", (0.8,))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Generation parameters of an image. A parameter is None if it is unknown.

    `tool` is the program that made the image. `width` and `height` are the requested dimensions:
    the image may have been enlarged later. `raw` is the original metadata of the program.
    """

    tool: Annotated[str | None, Shown(examples=("ComfyUI",))] = None
    prompt: Annotated[str | None, Shown(examples=("a red fox in the snow",))] = None
    negative_prompt: Annotated[str | None, Shown(examples=("blurry",))] = None
    seed: Annotated[int | None, Shown("up to 2**64 - 1", (965_400_086,))] = None
    steps: Annotated[int | None, Shown(examples=(20,))] = None
    cfg_scale: Annotated[float | None, Shown(examples=(7.0,))] = None
    sampler: Annotated[str | None, Shown(examples=("euler",))] = None
    scheduler: Annotated[str | None, Shown(examples=("karras",))] = None
    model: Annotated[str | None, Shown("as the tool names it", ("sd_xl_base_1.0.safetensors",))] = (
        None
    )
    loras: tuple[Lora, ...] | None = None
    width: Annotated[int | None, Shown("pixels asked for", (1024,))] = None
    height: Annotated[int | None, Shown("pixels asked for", (1024,))] = None
    derived_from: Annotated[
        tuple[str, ...] | None,
        Shown(
            "paths or SHA-256 of the images from which it was made",
            ([PATH_EXAMPLE, SHA256_EXAMPLE],),
        ),
    ] = None
    raw: Annotated[
        Mapping[str, object] | None,
        Shown("metadata as written by the tool, by its name in the file"),
    ] = None

    def as_json(self) -> dict[str, Any]:
        """Return the parameters as a dict that can be serialized as JSON in UTF-8."""
        values = {name: getattr(self, name) for name in NAMES}
        if self.loras is not None:
            values["loras"] = [{"name": lora.name, "weight": lora.weight} for lora in self.loras]
        if self.derived_from is not None:
            values["derived_from"] = list(self.derived_from)
        return values

    def over(self, other: "Generation") -> "Generation":
        """Return a copy whose unknown parameters have the values of `other`."""
        unknown = (name for name in NAMES if getattr(self, name) is None)
        return replace(self, **{name: getattr(other, name) for name in unknown})


NAMES: Final = tuple(field.name for field in fields(Generation))
"""Names of the generation parameters, in the order in which they are displayed."""
