"""Facts into the bytes of a PNG, JPEG, WebP or AVIF: a file for each says where.

What is there stays bit for bit, but for what an earlier call has written.
"""

import json
import operator
import struct
from collections.abc import Mapping
from typing import Any, Final

from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.file_parts import BrokenHeader
from stillroom.generation.carriers import heif, jpeg, png, webp
from stillroom.generation.facts import NAMES, Generation, generation_of
from stillroom.generation.writing import into_avif, into_jpeg, into_png, into_webp
from stillroom.generation.writing.packet import with_facts
from stillroom.work_budget import TooMuchWork

MAX_FACTS_BYTES: Final = 512 * 1024
"""As JSON; what is read of a file is twice that."""

_FORMS: Final = {
    "seed": "a whole number from 0 to 2**64 - 1",
    "steps": "a whole number",
    "width": "a whole number of pixels",
    "height": "a whole number of pixels",
    "cfg_scale": "a finite number",
    "loras": 'a list such as [{"name": "ink", "weight": 0.8}]',
    "derived_from": "a list of paths or SHA-256",
    "raw": "a JSON object of at most 64 levels",
}


def with_generation(data: bytes, generation: Generation | Mapping[str, Any]) -> bytes:
    """An image with these facts in it, in place of those that an earlier call has put there.

    Raises:
        InvalidParameter: no facts; the message says which one is wrong, and how it should be.
        UnsupportedMedia: of a format that cannot take any, or damaged.
    """
    facts = facts_json(generation)
    try:
        if data.startswith(png.SIGNATURE):
            return into_png.embed(data, facts)
        if data.startswith(jpeg.SIGNATURE):
            return into_jpeg.embed(data, facts)
        if webp.is_webp(data):
            return into_webp.with_packet(data, lambda packet: with_facts(packet, facts))
        if heif.is_heif(data):
            return into_avif.with_packet(data, lambda packet: with_facts(packet, facts))
    except (BrokenHeader, IndexError, TooMuchWork, struct.error) as error:
        raise UnsupportedMedia("the image is damaged: no facts can be put into it") from error
    raise UnsupportedMedia(
        "facts about the generation can be put into PNG, JPEG, WebP and AVIF: save it as one of "
        "these, or without `generation`"
    )


def facts_json(generation: Generation | Mapping[str, Any]) -> bytes:
    """The facts that are known, as JSON in ASCII: fit for every place in a file.

    Raises:
        InvalidParameter: as `with_generation`.
    """
    given = generation.as_json() if isinstance(generation, Generation) else generation
    given = {name: _plain(value) for name, value in given.items() if value is not None}
    unknown = next((name for name in given if name not in NAMES), None)
    if unknown is not None:
        names = ", ".join(NAMES)
        raise InvalidParameter(
            f"generation has no {str(unknown)[:64]!r}: it takes {names}", at=("generation",)
        )
    known = {
        name: value for name, value in generation_of(given).as_json().items() if value is not None
    }
    for name, value in given.items():
        if name not in known or _is_cut(value, known[name]):
            form = _FORMS.get(name, "a text in Unicode")
            raise InvalidParameter(f"generation[{name!r}] must be {form}", at=("generation", name))
    facts = json.dumps(known, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(facts) > MAX_FACTS_BYTES:
        raise InvalidParameter(
            f"generation is {len(facts)} bytes of JSON: at most {MAX_FACTS_BYTES} can be saved",
            at=("generation",),
        )
    return facts


def _plain(value: object) -> object:
    """A number of NumPy or torch as one of Python."""
    if isinstance(value, str | bytes | int | float | list | tuple | dict):
        return value
    if hasattr(value, "item"):
        return value.item()
    try:
        return operator.index(value)  # type: ignore[arg-type]  # that is what is tried
    except TypeError:
        return value


def _is_cut(given: object, known: object) -> bool:
    """Whether something of a text or list was left out, or put right."""
    if isinstance(given, str) and isinstance(known, str):
        return given != known
    return isinstance(given, list | tuple) and isinstance(known, list) and len(given) != len(known)
