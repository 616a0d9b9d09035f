"""Thumbnail options, and numbered names for new images."""

from typing import Literal, TypedDict
from urllib.parse import urlencode

from stillroom.paths import ImagePath


class Picture(TypedDict, total=False):
    """Options for a thumbnail that the server creates: docs/api.md, "Thumbnails"."""

    width: int
    height: int
    fit: Literal["contain", "cover"]
    format: Literal["webp", "jpeg", "png"]
    quality: int


def picture_query(picture: Picture) -> str:
    """Return the query string with thumbnail options, or an empty string if there are none."""
    return f"?{urlencode(picture)}" if picture else ""


def numbered(path: ImagePath, number: int) -> ImagePath:
    """Insert a number into a file name: `cats/fox.png` becomes `cats/fox-7.png`.

    Raises:
        InvalidPath: The result is too long.
    """
    folder, slash, name = path.text.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return ImagePath.parse(f"{folder}{slash}{stem}-{number}{dot}{suffix}")
