"""Manifest of a run: a JSON object with the head on the first line, then one image per line.

Stillroom reads and compares a manifest line by line, and never has all of it in memory. Other
programs can parse it as normal JSON.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from stillroom.errors import InvalidPath, TooLarge
from stillroom.paths import ImagePath, StorageKey, image_entry, is_reserved
from stillroom.store.values import OpenedImage, StoredImage

MANIFEST_NAME: Final = ".run.json"  # reserved in `paths.py`
CONTENT_TYPE: Final = "application/json"
MAX_BYTES: Final = 128 * 1024**2  # 100,000 images with the longest paths, 500,000 with usual ones
FACTS_BYTES: Final = 512  # maximum size of an image's line without its path; usually about 200
_MAX_LINE_BYTES: Final = 4096  # the longest path has 1,016 bytes before escaping
_IMAGES: Final = '"images":['
_END: Final = b"]}\n"


def manifest_key(folder: ImagePath) -> StorageKey:
    """Return the key of a folder's manifest. Raises `InvalidPath` if the key is too long."""
    return StorageKey.of_reserved(folder, MANIFEST_NAME)


def is_manifest(key_text: str) -> bool:
    """Return whether a listed key belongs to a manifest."""
    return key_text.endswith(MANIFEST_NAME) and is_reserved(key_text)


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """Head (first line) of a manifest. `folder` is outdated if the folder has been renamed."""

    folder: str
    published_at: datetime
    count: int


@dataclass(slots=True)
class ImageSet:
    """Fingerprint of a set of images: their number and the sum of their hashes.

    The order of the images does not matter, because stores sort differently. ETags do not matter,
    because they change when the same bytes are saved again, or moved to another store.
    """

    count: int = 0
    sum: int = 0

    def add(self, image: Mapping[str, Any]) -> None:
        """Add an image's manifest entry to the fingerprint."""
        fields = [image.get(name) for name in ("path", "size", "content_type", "sha256")]
        digest = hashlib.sha256(json.dumps(fields).encode()).digest()
        self.sum = (self.sum + int.from_bytes(digest, "big")) % (1 << 256)
        self.count += 1


def describe_image(image: StoredImage, sha256: bytes) -> dict[str, object]:
    """Return the entry of an image in a manifest, as a JSON object."""
    return {
        "path": image_entry(image.key.text),
        "size": image.size,
        "content_type": image.content_type,
        "sha256": sha256.hex(),
        "etag": image.etag,
    }


async def encode(
    head: ManifestHead, images: AsyncIterator[list[dict[str, object]]]
) -> AsyncIterator[bytes]:
    """Encode a manifest and yield it in chunks. Raise `TooLarge` if it would exceed `MAX_BYTES`."""
    first_line = {
        "version": 1,
        "folder": head.folder,
        "state": "published",
        "published_at": head.published_at.isoformat(),
        "count": head.count,
    }
    yield f"{_json(first_line)[:-1]},{_IMAGES}\n".encode()
    size = 0
    async for page in images:
        chunk = ",\n".join(map(_json, page)).encode("utf-8", "backslashreplace")
        if not chunk:
            continue
        chunk = b",\n" * bool(size) + chunk
        size += len(chunk)
        if size > MAX_BYTES - _MAX_LINE_BYTES:
            raise TooLarge(
                f"the run's manifest would be larger than {MAX_BYTES} bytes: publish it as "
                "several runs, each in its own folder"
            )
        yield chunk
    yield b"\n" + _END


async def read_head(opened: OpenedImage) -> ManifestHead | None:
    """Read a manifest's head. Return None if the manifest is invalid."""
    chunks = opened.chunks(0, min(opened.image.size, _MAX_LINE_BYTES))
    line, newline, _ = b"".join([chunk async for chunk in chunks]).partition(b"\n")
    if not newline or not line.endswith(f",{_IMAGES}".encode()):
        return None
    try:
        content = json.loads(line + b"]}")
        published_at = datetime.fromisoformat(content["published_at"]).astimezone(UTC)
        folder, count = ImagePath.parse(content["folder"]).text, content["count"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, InvalidPath):
        return None
    return ManifestHead(folder, published_at, count) if isinstance(count, int) else None


async def read_images(opened: OpenedImage) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the entries of a manifest. Raise ValueError if it is invalid or incomplete."""
    lines = _lines(opened)
    await anext(lines, b"")
    async for line in lines:
        if line + b"\n" == _END:
            return
        image = json.loads(line.removesuffix(b",")) if line else None
        if image is None:
            continue
        if not isinstance(image, dict):
            break
        yield image
    raise ValueError("the manifest is incomplete")


async def _lines(opened: OpenedImage) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in opened.chunks(0, opened.image.size):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError("a line is too long")
    if rest:
        yield rest


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
