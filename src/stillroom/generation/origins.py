"""Names by which metadata refers to the images from which an image was made."""

import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from stillroom.generation.facts import MAX_ITEMS, MAX_ORIGIN, name

_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_KIND_OF_FOLDER: Final = re.compile(r" ?\[(?:input|output|temp)\]$")
_NO_PATH: Final = re.compile(r"[/~]|[A-Za-z][\w+.-]*:|.*//|(?:.*/)?\.\.?(?:/|$)", re.DOTALL)
"""Beginning of absolute paths and URLs, empty segments, `.` and `..`."""


def is_sha256(origin: str) -> bool:
    """Return whether an origin is a hexadecimal SHA-256, and not a path."""
    return _SHA256.fullmatch(origin) is not None


def canonical(origin: str) -> str:
    """Return a SHA-256 in lower case, or a path in Unicode normalization form C."""
    return origin.lower() if is_sha256(origin) else unicodedata.normalize("NFC", origin)


def origins_of(values: Iterable[object]) -> tuple[str, ...] | None:
    """Return the first 100 names of input images that can be paths in a store; None if none can.

    `values` are untrusted. ComfyUI (folder_paths.py, `annotated_filepath`) adds the kind of its
    folder to a name, as in `fox.png [output]`.
    """
    texts = (value for value in values if isinstance(value, str) and len(value) <= MAX_ORIGIN)
    names = (_KIND_OF_FOLDER.sub("", name(text) or "").replace("\\", "/") for text in texts)
    found = dict.fromkeys(canonical(one) for one in names if one and not _NO_PATH.match(one))
    return tuple(sorted(itertools.islice(found, MAX_ITEMS))) or None


def meanings(origin: str, path: str) -> tuple[str, ...]:
    """Return the SHA-256 or the paths to which an origin in the metadata of an image may refer.

    A name is relative to the root of the store, or to the folder of the image at `path`.
    """
    folder = path.rpartition("/")[0]
    known = canonical(origin)
    return (known,) if not folder or is_sha256(known) else (known, f"{folder}/{known}")
