"""The manifest of a run: a JSON object with its head on one line, and then each image on a line.

So it is written, compared and looked into without ever being in memory as a whole, and is plain
JSON for all who read the bucket or the folder without Stillroom.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from stillroom.errors import InvalidPath, TooLarge
from stillroom.paths import ImagePath, image_entry
from stillroom.storage.values import OpenedImage, StoredImage

CONTENT_TYPE: Final = "application/json"

MAX_BYTES: Final = 128 * 1024**2
"""Of a manifest: 100,000 images with the longest paths that there can be, or 500,000 others."""

FACTS_BYTES: Final = 512
"""Of an image's line without its path; some 200 as a rule."""

_MAX_LINE_BYTES: Final = 4096
"""The longest path has 1,016, of which some are escaped."""

_IMAGES: Final = '"images":['
_END: Final = b"]}\n"


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What a manifest says before its images.

    Attributes:
        folder: Where the run was published; a store that was renamed by hand may have it elsewhere.
        published_at: UTC.
        count: How many images it has.
    """

    folder: str
    published_at: datetime
    count: int

    def line(self) -> bytes:
        """As the manifest begins."""
        head = {
            "version": 1,
            "folder": self.folder,
            "state": "published",
            "published_at": self.published_at.isoformat(),
            "count": self.count,
        }
        return f"{_json(head)[:-1]},{_IMAGES}\n".encode()


class ImageSet:
    """What is compared of two sets of images: their number, and a sum of their hashes.

    The order does not count, since stores list in different ones; nor do ETags, which change when
    the same bytes are saved again, or are moved to another store.
    """

    def __init__(self) -> None:
        """Begin with no image."""
        self.count = 0
        self.sum = 0

    def add(self, described: Mapping[str, Any]) -> None:
        """Add an image, as a line of a manifest has it."""
        same = [described.get(name) for name in ("path", "size", "content_type", "sha256")]
        digest = hashlib.sha256(json.dumps(same).encode()).digest()
        self.sum = (self.sum + int.from_bytes(digest, "big")) % (1 << 256)
        self.count += 1

    def is_same(self, other: "ImageSet") -> bool:
        """Whether both have the same images."""
        return (self.count, self.sum) == (other.count, other.sum)


def described(image: StoredImage, sha256: bytes) -> dict[str, object]:
    """What a manifest says of an image."""
    return {
        "path": image_entry(image.key.text),
        "size": image.size,
        "content_type": image.content_type,
        "sha256": sha256.hex(),
        "etag": image.etag,
    }


async def written(
    head: ManifestHead, images: AsyncIterator[list[dict[str, object]]]
) -> AsyncIterator[bytes]:
    """The bytes of a manifest, a chunk for each page of `images`.

    Raises:
        TooLarge: there are too many images.
    """
    yield head.line()
    size, separator = 0, ""
    async for page in images:
        lines = []
        for image in page:
            lines.append(f"{separator}{_json(image)}")
            separator = ",\n"
        chunk = "".join(lines).encode("utf-8", "backslashreplace")
        size += len(chunk)
        if size > MAX_BYTES - _MAX_LINE_BYTES:
            raise TooLarge(
                f"the run's manifest would be larger than {MAX_BYTES} bytes: publish it in parts, "
                "each a folder of its own"
            )
        if chunk:
            yield chunk
    yield b"\n" + _END


async def read_head(opened: OpenedImage) -> ManifestHead | None:
    """What a manifest says before its images; None if this is none."""
    start = b""
    async for chunk in opened.chunks(0, min(opened.image.size, _MAX_LINE_BYTES)):
        start += chunk
    line, newline, _ = start.partition(b"\n")
    if not newline or not line.endswith(f",{_IMAGES}".encode()):
        return None
    return _head_of(line + b"]}")


def _head_of(line: bytes) -> ManifestHead | None:
    try:
        said = json.loads(line)
        published_at = datetime.fromisoformat(said["published_at"]).astimezone(UTC)
        folder, count = ImagePath.parse(said["folder"]).text, said["count"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, InvalidPath):
        return None
    return ManifestHead(folder, published_at, count) if isinstance(count, int) else None


async def read_images(opened: OpenedImage) -> AsyncIterator[Mapping[str, Any]]:
    """The images of a manifest, one by one.

    Raises:
        ValueError: this is none, or not whole.
    """
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
    raise ValueError("not a whole manifest")


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
