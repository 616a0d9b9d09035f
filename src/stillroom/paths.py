"""Image paths, which clients use, and storage keys, under which images are stored.

Text from clients is parsed to an `ImagePath` once, and only this module converts an `ImagePath` to
a `StorageKey`. All other code accepts only parsed values, so no check can be forgotten. Invalid
paths are refused and never corrected: otherwise an image would have several names.
"""

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote, unquote_to_bytes

from stillroom.errors import InvalidPath

COMPUTE_PREFIX: Final = "compute/"  # prefix of the keys of images, on every backend
MEDIA_PREFIX: Final = "media/"  # prefix of the keys of media resources, which have no image path
IMAGE_PREFIXES: Final = (COMPUTE_PREFIX, MEDIA_PREFIX)  # all other keys are private, like uploads

RESERVED_NAMES: Final = {".run.json": "the manifest of a run"}  # no image path contains them
_RESERVED_ENDINGS = tuple(f"/{name}" for name in RESERVED_NAMES)

MAX_KEY_BYTES: Final = 1024
"""Maximum length of a key, including its prefix.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

MAX_SEGMENT_BYTES: Final = 255
"""Maximum length of a path segment: NAME_MAX on Linux filesystems, and the limit of SeaweedFS."""

_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]{0,254}")
"""Pattern that most segments match. A matching segment is valid, so further checks are skipped."""

_PLAIN_TARGET = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""Pattern that most raw paths match. A match of up to `MAX_SEGMENT_BYTES` needs no more checks."""

_FORBIDDEN = re.compile(
    "["
    "\\x00-\\x1f\\x7f-\\x9f"  # control characters (Cc)
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # bidirectional control characters
    "\\u200b\\u2060-\\u2064\\ufeff"  # invisible characters that no script needs
    "\\u2028\\u2029"  # line and paragraph separators
    "\\ud800-\\udfff"  # surrogates
    "\\ufdd0-\\ufdef"  # noncharacters, also at the end of each plane
    + "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(17))
    + "]"
)
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENTS = frozenset((".", ".."))
_NEVER_IN_A_READING = re.compile("[/\\\\\\x00-\\x1f\\x7f-\\x9f]")


@dataclass(frozen=True, slots=True, order=True)
class ImagePath:
    """Valid path of an image, such as `cats/tom.webp`: relative, in NFC, ordered by its bytes."""

    text: str

    @classmethod
    def parse(cls, text: str, *, at: tuple[str, ...] = ("path", "path")) -> Self:
        """Parse percent-decoded text, or raise `InvalidPath`. `at` locates it in the request."""
        _check_start(text, at=at)
        for segment in text.split("/"):
            _check_segment(segment, whole=True, at=at)
        _check_length(text, at=at)
        return cls(text)

    @classmethod
    def from_target(cls, raw: bytes) -> Self:
        """Parse the percent-encoded path at the end of a URL. Decode it strictly, and only once."""
        if len(raw) <= MAX_SEGMENT_BYTES and _PLAIN_TARGET.fullmatch(raw):
            return cls(raw.decode("ascii"))
        return cls.parse(_decode_once(raw, at=("path", "path")))

    def quoted(self) -> str:
        """Return the percent-encoded path, with unescaped slashes."""
        return quote(self.text, safe="/")


@dataclass(frozen=True, slots=True)
class ImagePrefix:
    """Prefix of valid image paths. The empty prefix matches all paths."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse untrusted text as a path prefix. Raises `InvalidPath` if no path begins with it."""
        _check_start(text, at=("query", "prefix"))
        *folders, start = text.split("/")
        for segment in folders:
            _check_segment(segment, whole=True, at=("query", "prefix"))
        _check_segment(start, whole=False, at=("query", "prefix"))
        _check_length(text, at=("query", "prefix"))
        return cls(text)


@dataclass(frozen=True, slots=True, order=True)
class StorageKey:
    """Storage key, the same on every backend: `compute/<path>` or `media/<id>/file.<ext>`."""

    text: str

    @classmethod
    def of_image(cls, path: ImagePath) -> Self:
        """Return the key of the image with this path."""
        return cls(COMPUTE_PREFIX + path.text)

    @classmethod
    def of_media(cls, resource_id: uuid.UUID, extension: str) -> Self:
        """Return the key of a media resource. The bytes under this key never change."""
        return cls(f"{MEDIA_PREFIX}{resource_id}/file.{extension}")

    @classmethod
    def of_reserved(cls, folder: ImagePath, name: str) -> Self:
        """Return the key of a reserved name (`.run.json`) in a folder. May raise `InvalidPath`."""
        _check_length(f"{folder.text}/{name}", at=("path", "folder"))
        return cls(f"{COMPUTE_PREFIX}{folder.text}/{name}")

    @property
    def is_media(self) -> bool:
        """Return whether the key is that of a media resource, whose bytes never change."""
        return self.text.startswith(MEDIA_PREFIX)


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """Prefix of the keys in a listing."""

    text: str

    @classmethod
    def of_images(cls, prefix: ImagePrefix) -> Self:
        """Return the key prefix for all images whose path begins with `prefix`."""
        return cls(COMPUTE_PREFIX + prefix.text)

    @classmethod
    def of_folder(cls, folder: ImagePath) -> Self:
        """Return the key prefix for everything in a folder, at any depth."""
        return cls(f"{COMPUTE_PREFIX}{folder.text}/")

    @classmethod
    def of_library(cls) -> Self:
        """Return the key prefix for all media resources."""
        return cls(MEDIA_PREFIX)


def path_of_key(text: str, *, at: tuple[str, ...]) -> ImagePath:
    """Parse an untrusted storage key of the form `compute/<path>`. Raises `InvalidPath`."""
    if not text.startswith(COMPUTE_PREFIX):
        raise InvalidPath(f"must begin with `{COMPUTE_PREFIX}`", at=at)
    return ImagePath.parse(text.removeprefix(COMPUTE_PREFIX), at=at)


def image_key_bound(text: str) -> str:
    """Return the key after which an image listing continues if its last entry was `text`."""
    return COMPUTE_PREFIX + text


def image_entry(key_text: str) -> str:
    """Return a listed key or folder without `compute/`, as shown to clients."""
    return key_text.removeprefix(COMPUTE_PREFIX)


def folders_of(text: str) -> list[str]:
    """Return the folders that contain a path or key, from the innermost to the outermost."""
    parts = text.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]


def is_reserved(key_text: str) -> bool:
    """Return whether a listed key is a reserved name (`.run.json`) in a valid folder."""
    if not key_text.endswith(_RESERVED_ENDINGS) or not key_text.startswith(COMPUTE_PREFIX):
        return False
    folders = key_text.removeprefix(COMPUTE_PREFIX).split("/")[:-1]
    return bool(folders) and all(map(is_segment, folders))


def is_listed(name: str) -> bool:
    """Return whether listings may contain a name. Names of folders end with a slash."""
    return name in RESERVED_NAMES or is_segment(name.rstrip("/"))


def unsafe_character(text: str) -> str | None:
    """Return the first forbidden character (control, surrogate, invisible), or None."""
    match = _FORBIDDEN.search(text)
    return None if match is None else match[0]


def is_segment(name: str) -> bool:
    """Return whether a file name is a valid path segment."""
    if _PLAIN_SEGMENT.fullmatch(name):
        return True
    try:
        _check_segment(name, whole=True)
    except InvalidPath:
        return False
    return True


def decode_query_text(raw: bytes, *, at: tuple[str, ...]) -> str:
    """Decode text in a query strictly; `+` is a space. Raise `InvalidPath` if it is malformed."""
    return _decode_once(raw.replace(b"+", b" "), at=at)


def _decode_once(raw: bytes, *, at: tuple[str, ...]) -> str:
    if _BROKEN_ESCAPE.search(raw):
        raise InvalidPath("a percent sign is not followed by two hexadecimal digits", at=at)
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidPath("the text is not valid UTF-8", at=at) from None


def _check_length(text: str, *, at: tuple[str, ...] = ("path", "path")) -> None:
    limit = MAX_KEY_BYTES - len(COMPUTE_PREFIX)
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise InvalidPath(f"the path is {size} bytes long, but the limit is {limit}", at=at)


def _check_start(text: str, *, at: tuple[str, ...]) -> None:
    if text.startswith("/"):
        raise InvalidPath("the path must not begin with a slash", at=at)


def _check_segment(segment: str, *, whole: bool, at: tuple[str, ...] = ("path", "path")) -> None:
    """Raise `InvalidPath` for a forbidden segment, or beginning of a segment if not `whole`."""
    if _PLAIN_SEGMENT.fullmatch(segment):
        return
    if whole and not segment:
        raise InvalidPath("the path has an empty segment (a trailing or double slash)", at=at)
    if whole and segment in _DOT_SEGMENTS:
        raise InvalidPath("a segment of the path is `.` or `..`", at=at)
    if "\\" in segment:
        raise InvalidPath("a backslash is not allowed in a path", at=at)
    if character := unsafe_character(segment):
        raise InvalidPath(f"the character U+{ord(character):04X} is not allowed", at=at)
    if not unicodedata.is_normalized("NFC", segment):
        raise InvalidPath("the path is not in Unicode normalization form C (NFC)", at=at)
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidPath(f"a segment of the path is longer than {MAX_SEGMENT_BYTES} bytes", at=at)
    _check_reading(unicodedata.normalize("NFKC", segment), whole=whole, at=at)
    if "%" in segment:
        _check_reading(unquote(segment, errors="replace"), whole=whole, at=at)


def _check_reading(reading: str, *, whole: bool, at: tuple[str, ...]) -> None:
    """Raise `InvalidPath` if other programs could interpret a segment as a different path."""
    if whole and reading in RESERVED_NAMES:
        raise InvalidPath(f"`{reading}` is reserved for {RESERVED_NAMES[reading]}", at=at)
    if (whole and reading in _DOT_SEGMENTS) or _NEVER_IN_A_READING.search(reading):
        raise InvalidPath(
            "after normalization (NFKC) or a second percent-decoding, a segment would be `.` or "
            "`..`, or contain a slash, backslash or control character",
            at=at,
        )
