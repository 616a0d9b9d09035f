"""Descriptions of generation parameters (`Generation` and `Lora`) for the OpenAPI document."""

from collections.abc import Mapping
from typing import Final

from stillroom.wire.shown import PATH_EXAMPLE, SHA256_EXAMPLE, Shown

PARAMETERS: Final[Mapping[str, Shown]] = {
    "tool": Shown(examples=("ComfyUI",)),
    "prompt": Shown(examples=("a red fox in the snow",)),
    "negative_prompt": Shown(examples=("blurry",)),
    "seed": Shown("up to 2**64 - 1", (965_400_086,)),
    "steps": Shown(examples=(20,)),
    "cfg_scale": Shown(examples=(7.0,)),
    "sampler": Shown(examples=("euler",)),
    "scheduler": Shown(examples=("karras",)),
    "model": Shown("as the tool names it", ("sd_xl_base_1.0.safetensors",)),
    "width": Shown("pixels asked for", (1024,)),
    "height": Shown("pixels asked for", (1024,)),
    "derived_from": Shown(
        "paths or SHA-256 of the images from which it was made", ([PATH_EXAMPLE, SHA256_EXAMPLE],)
    ),
    "raw": Shown("metadata as written by the tool, by its name in the file"),
}

LORA: Final[Mapping[str, Shown]] = {
    "name": Shown(examples=("ink-lines",)),
    "weight": Shown("1 is its full strength", (0.8,)),
}
