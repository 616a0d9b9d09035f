"""Origins of an image: the images from which it was made, as named in its metadata."""

import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from stillroom.generation.facts import MAX_ITEMS, MAX_ORIGIN, name

_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_KIND_OF_FOLDER: Final = re.compile(r" ?\[(?:input|output|temp)\]$")
_NO_PATH: Final = re.compile(r"[/~]|[A-Za-z][\w+.-]*:|.*//|(?:.*/)?\.\.?(?:/|$)", re.DOTALL)
"""Pattern of texts that cannot be paths in a store: absolute paths, URLs, `//`, `.` and `..`."""


def is_sha256(origin: str) -> bool:
    """Return whether an origin is a hexadecimal SHA-256. Otherwise it is a path."""
    return _SHA256.fullmatch(origin) is not None


def canonical(origin: str) -> str:
    """Normalize an origin: a SHA-256 to lower case, or a path to Unicode form C."""
    return origin.lower() if is_sha256(origin) else unicodedata.normalize("NFC", origin)


def origins_of(values: Iterable[object]) -> tuple[str, ...] | None:
    """Return the origins among untrusted values, at most 100, or None if there are none.

    Values that cannot be paths in a store are skipped. ComfyUI adds the kind of a folder to a name,
    as in `fox.png [output]`. This suffix is removed (folder_paths.py, `annotated_filepath`).
    """
    texts = (value for value in values if isinstance(value, str) and len(value) <= MAX_ORIGIN)
    names = (_KIND_OF_FOLDER.sub("", name(text) or "").replace("\\", "/") for text in texts)
    origins = dict.fromkeys(canonical(each) for each in names if each and not _NO_PATH.match(each))
    return tuple(sorted(itertools.islice(origins, MAX_ITEMS))) or None


def meanings(origin: str, path: str) -> tuple[str, ...]:
    """Return the SHA-256 or the paths that an origin of the image at `path` may mean.

    A path may be relative to the root of the store, or to the folder of the image.
    """
    folder = path.rpartition("/")[0]
    known = canonical(origin)
    return (known,) if not folder or is_sha256(known) else (known, f"{folder}/{known}")
