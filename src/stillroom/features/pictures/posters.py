"""Posters: images next to videos, from which the thumbnails of the videos are made."""

from typing import Final

from stillroom.paths import StorageKey, path_of_key

POSTER_SUFFIX: Final = ".poster.webp"
"""Suffix for the path of a poster: the preview of a video whose frames cannot be decoded."""


def poster_of(video: StorageKey) -> StorageKey:
    """Return the key of a video's poster. Raises `InvalidPath` if the path would be too long."""
    return StorageKey.of_image(path_of_key(video.text + POSTER_SUFFIX, at=("path", "path")))
