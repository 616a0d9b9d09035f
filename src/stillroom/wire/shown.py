"""Annotation that describes a response field for the OpenAPI document, and example values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

PATH_EXAMPLE: Final = "generations/1/cat.png"
FOLDER_EXAMPLE: Final = "generations/1"
ETAG_EXAMPLE: Final = '"18ff3d2b6c1a-133333-2a"'
SHA256_EXAMPLE: Final = "5f8f04f6a3a892aaabbddb6cf273894493773960d4a325b105fee46eef4304f1"
"""Example SHA-256. Without examples, the page `/docs` would show the word "string"."""

TIME_EXAMPLE: Final = "2026-11-24T15:00:00+00:00"
ID_EXAMPLE: Final = "0197c2a8-7d1e-7c3a-9f00-3b5d8e1a2c4f"
API_EXAMPLE: Final = "http://127.0.0.1:8000/api/v1"
SIGNED_URL_EXAMPLE: Final = (
    f"{API_EXAMPLE}/storage/images/{PATH_EXAMPLE}?expires=1795536000"
    "&kid=6f1d2c3b4a596877&signature=vQ2d8b0TqkM3nJx5LrC7yWz1aEo4hUfS6gPiNtB9RkY"
)

LOCAL: Final[Mapping[str, bool]] = {"local": True}
"""Metadata of dataclass fields that the SDK sets itself, and that no response contains."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Description and examples of a field in the OpenAPI document."""

    description: str | None = None
    examples: tuple[object, ...] = ()


Size = Annotated[int, Shown("bytes", (1_258_291,))]
ContentType = Annotated[str, Shown(examples=("image/png",))]
Etag = Annotated[str, Shown("with its quotes, ready for If-Match", (ETAG_EXAMPLE,))]
