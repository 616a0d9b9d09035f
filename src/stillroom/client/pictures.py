"""Thumbnails of images: what is asked for, and the names of new images."""

from typing import Literal, TypedDict
from urllib.parse import urlencode

from stillroom.paths import ImagePath


class Picture(TypedDict, total=False):
    """A thumbnail of an image, made by the server: docs/api.md, "Thumbnails"."""

    width: int
    height: int
    fit: Literal["contain", "cover"]
    format: Literal["webp", "jpeg", "png"]
    quality: int


def picture_query(picture: Picture) -> str:
    """The query of a GET for it; empty for the image itself."""
    return f"?{urlencode(picture)}" if picture else ""


def numbered(path: ImagePath, number: int) -> ImagePath:
    """`cats/fox-7.png` for `cats/fox.png`.

    Raises:
        InvalidPath: it would be too long.
    """
    folder, slash, name = path.text.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return ImagePath.parse(f"{folder}{slash}{stem}-{number}{dot}{suffix}")
