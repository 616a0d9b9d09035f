"""JSON response that describes a resource (image or video) of the media library."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Final

from stillroom.wire.generation import AiMark, Generation
from stillroom.wire.shown import API_EXAMPLE, ID_EXAMPLE, PATH_EXAMPLE, SHA256_EXAMPLE, Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaResource:
    """Image or video of the media library. Older servers omit the fields that have defaults."""

    id: str
    resource_type: str
    storage_key: Annotated[str, Shown(examples=(f"media/{ID_EXAMPLE}/file.png",))]
    source_key: Annotated[
        str | None,
        Shown("the key from which it was first ingested, if known", (f"compute/{PATH_EXAMPLE}",)),
    ] = None
    url: Annotated[
        str | None, Shown("URL of the bytes", (f"{API_EXAMPLE}/media-resources/{ID_EXAMPLE}/file",))
    ] = None
    content_hash: Annotated[str, Shown("SHA-256, hexadecimal", (SHA256_EXAMPLE,))]
    extension: Annotated[str, Shown(examples=("png",))]
    content_type: Annotated[str, Shown(examples=("image/png",))]
    file_size: Annotated[int, Shown("bytes")]
    width: Annotated[int | None, Shown("pixels, as stored")]
    height: Annotated[int | None, Shown("pixels, as stored")]
    color_profile: Annotated[str | None, Shown(examples=("sRGB",))]
    duration: Annotated[float | None, Shown("seconds, of a video", (None,))] = None
    dominant_color: Annotated[
        str | None,
        Shown(
            "in sRGB; computed some seconds after the ingest, null before and if it cannot be "
            "computed",
            ("#8a6d3b",),
        ),
    ] = None
    ai_mark: Annotated[
        AiMark | None,
        Shown(
            "mark in the file that AI made it; null if it cannot be determined, or if the resource "
            "is older than this field",
            ("iptc",),
        ),
    ] = None
    generation: Annotated[
        Generation | None,
        Shown(
            "generation parameters, with `raw` null and long texts truncated; null if they are "
            "unknown, in a list also for a moment after the ingest"
        ),
    ] = None
    tags: Annotated[tuple[str, ...], Shown("sorted", (["cat", "morning"],))] = ()
    protected: bool
    alt_text: Annotated[str | None, Shown(examples=("A cat on a sill",))]
    caption: Annotated[str | None, Shown(examples=("Tom, in the morning",))]
    created_at: datetime


RESOURCE_FIELDS: Final = tuple(field.name for field in fields(MediaResource))
"""Names of the fields of `MediaResource` in the order of the JSON. Add new fields at the end."""
