"""Embedding of generation parameters in image files, without other changes."""

import json
import operator
import struct
from collections.abc import Mapping
from typing import Any, Final

from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.formats import png
from stillroom.formats.file_parts import BrokenHeader
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation.carriers.jpeg import PacketTooLarge
from stillroom.generation.carriers.png import embed
from stillroom.generation.carriers.xmp import with_facts
from stillroom.generation.facts import generation_of
from stillroom.generation.file_types import file_type_of
from stillroom.wire.generation import NAMES, Generation

MAX_FACTS_BYTES: Final = 512 * 1024  # size of parameters in JSON; the reader accepts twice as much

_FORMS: Final = {
    "seed": "a whole number from 0 to 2**64 - 1",
    "steps": "a whole number",
    "width": "a whole number of pixels",
    "height": "a whole number of pixels",
    "cfg_scale": "a finite number",
    "loras": 'a list such as [{"name": "ink", "weight": 0.8}]',
    "derived_from": "a list of paths or SHA-256 hashes",
    "raw": "a JSON object of at most 64 levels",
}


def with_generation(data: bytes, generation: Generation | Mapping[str, Any]) -> bytes:
    """Return an image file with generation parameters, which replace earlier parameters.

    Raises:
        InvalidParameter: a parameter is invalid; the message contains its name and valid form.
        UnsupportedMedia: the image is damaged, or its format does not support metadata.
    """
    facts = _facts_json(generation)
    try:
        if data.startswith(png.SIGNATURE):
            return embed(data, facts)
        writer = file_type_of(data).writer
        if writer is not None:
            return writer(data, lambda packet: with_facts(packet, facts))
    except PacketTooLarge:
        raise InvalidParameter(
            f"generation has {len(facts)} bytes, and a JPEG can store about 64,000: omit `raw`, "
            "or save a PNG or WebP",
            at=("generation",),
        ) from None
    except (BrokenHeader, IndexError, TooMuchWork, struct.error) as error:
        raise UnsupportedMedia("cannot add generation metadata: the image is damaged") from error
    raise UnsupportedMedia(
        "generation metadata can be added only to PNG, JPEG, WebP and AVIF: save in one of "
        "these formats, or without `generation`"
    )


def _facts_json(generation: Generation | Mapping[str, Any]) -> bytes:
    values = generation.as_json() if isinstance(generation, Generation) else generation
    values = {name: _plain(value) for name, value in values.items() if value is not None}
    unknown = next((name for name in values if name not in NAMES), None)
    if unknown is not None:
        message = f"generation has no {str(unknown)[:64]!r}: its fields are {', '.join(NAMES)}"
        raise InvalidParameter(message, at=("generation",))
    known = generation_of(values).as_json()
    known = {name: value for name, value in known.items() if value is not None}
    for name, value in values.items():
        if name not in known or _is_cut(value, known[name]):
            form = _FORMS.get(name, "a string of valid Unicode")
            raise InvalidParameter(f"generation[{name!r}] must be {form}", at=("generation", name))
    facts = json.dumps(known, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(facts) > MAX_FACTS_BYTES:
        raise InvalidParameter(
            f"generation is {len(facts)} bytes of JSON: at most {MAX_FACTS_BYTES} can be saved",
            at=("generation",),
        )
    return facts


def _plain(value: object) -> object:
    if isinstance(value, str | bytes | int | float | list | tuple | dict):
        return value
    if hasattr(value, "item"):
        return value.item()
    try:
        return operator.index(value)  # type: ignore[arg-type]  # a TypeError is caught
    except TypeError:
        return value


def _is_cut(value: object, known: object) -> bool:
    """Return whether parsing `value` to `known` has changed a string or shortened a list."""
    if isinstance(value, str) and isinstance(known, str):
        return value != known
    return isinstance(value, list | tuple) and isinstance(known, list) and len(value) != len(known)
