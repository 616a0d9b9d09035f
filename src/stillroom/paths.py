"""Image paths, as clients use them, and the storage keys under which the bytes are kept.

A client's text is parsed to an `ImagePath` once, at the border, and an `ImagePath` becomes a
`StorageKey` only here. All other code accepts parsed values, so no check can be forgotten. Invalid
paths are refused and never corrected, because a corrected path would be a second name of an image.
"""

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote, unquote_to_bytes

from stillroom.errors import InvalidPath

COMPUTE_PREFIX: Final = "compute/"
"""Prefix of images in the store, on every backend."""

MEDIA_PREFIX: Final = "media/"
"""Prefix of images in the media library; no path leads there."""

POSTER_SUFFIX: Final = ".poster.webp"
"""Suffix of the path of a poster, which represents a video if no frame can be decoded."""

MANIFEST_NAME: Final = ".run.json"
"""Name of a run's manifest in its folder; no path has such a segment."""

MAX_KEY_BYTES: Final = 1024
"""Limit with the prefix. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

MAX_SEGMENT_BYTES: Final = 255
"""Maximum length of a file name on Linux filesystems (NAME_MAX), and on SeaweedFS."""

_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]{0,254}")
"""Segments that are valid under all rules below; nearly all are, and this check is fast."""

_PLAIN_TARGET = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""Whole paths like that, written without escapes, up to the length of one segment."""

_FORBIDDEN = re.compile(
    "["
    "\\x00-\\x1f\\x7f-\\x9f"  # controls (Cc)
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # bidi controls
    "\\u200b\\u2060-\\u2064\\ufeff"  # invisible, and not needed to write any script
    "\\u2028\\u2029"  # line and paragraph separators
    "\\ud800-\\udfff"  # surrogates
    "\\ufdd0-\\ufdef"  # noncharacters, and the two at the end of each plane
    + "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(17))
    + "]"
)
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENTS = frozenset((".", ".."))
_NEVER_IN_A_READING = re.compile("[/\\\\\\x00-\\x1f\\x7f-\\x9f]")


@dataclass(frozen=True, slots=True, order=True)
class ImagePath:
    """Path of an image, such as `cats/2026/tom.webp`: checked, relative, NFC.

    Ordered by UTF-8 bytes, which is the order of code points and therefore of Python strings.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse decoded, untrusted text.

        Raises:
            InvalidPath: for every reason listed in `docs/adr/0004-refusals.md`.
        """
        _check_start(text, at=("path", "path"))
        for segment in text.split("/"):
            _check_segment(segment, whole=True)
        _check_length(text)
        return cls(text)

    @classmethod
    def from_target(cls, raw: bytes) -> Self:
        """Parse the raw bytes of a request target after the route's prefix.

        They are percent-decoded exactly once, and strictly.

        Raises:
            InvalidPath: also for a broken escape or invalid UTF-8.
        """
        if len(raw) <= MAX_SEGMENT_BYTES and _PLAIN_TARGET.fullmatch(raw):
            return cls(raw.decode("ascii"))
        return cls.parse(_decode_once(raw, at=("path", "path")))

    def quoted(self) -> str:
        """Return the path as in a URL, with unquoted slashes."""
        return quote(self.text, safe="/")


@dataclass(frozen=True, slots=True)
class ImagePrefix:
    """Literal text with which valid paths can begin; the empty prefix matches all of them."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse untrusted text.

        Raises:
            InvalidPath: no valid path begins with this text.
        """
        _check_start(text, at=("query", "prefix"))
        *folders, start = text.split("/")
        for segment in folders:
            _check_segment(segment, whole=True, at=("query", "prefix"))
        _check_segment(start, whole=False, at=("query", "prefix"))
        _check_length(text, at=("query", "prefix"))
        return cls(text)


@dataclass(frozen=True, slots=True, order=True)
class StorageKey:
    """Key of an object on every backend: `compute/<path>`, `media/<id>/file.<ext>`."""

    text: str

    @classmethod
    def of_image(cls, path: ImagePath) -> Self:
        """Return the key of the image with a path."""
        return cls(COMPUTE_PREFIX + path.text)

    @classmethod
    def of_media(cls, resource_id: uuid.UUID, extension: str) -> Self:
        """Return the key of an image in the media library; its bytes never change."""
        return cls(f"{MEDIA_PREFIX}{resource_id}/file.{extension}")

    @classmethod
    def of_manifest(cls, folder: ImagePath) -> Self:
        """Return the key of the manifest of the run in a folder.

        Raises:
            InvalidPath: the key would be too long.
        """
        _check_length(f"{folder.text}/{MANIFEST_NAME}", at=("path", "folder"))
        return cls(f"{COMPUTE_PREFIX}{folder.text}/{MANIFEST_NAME}")

    @property
    def is_media(self) -> bool:
        """Return whether the key is the media library's, so that its bytes never change."""
        return self.text.startswith(MEDIA_PREFIX)

    @property
    def is_manifest(self) -> bool:
        """Return whether the key is that of a run's manifest."""
        return is_manifest(self.text)


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """Literal text with which keys begin, for a listing."""

    text: str

    @classmethod
    def of_images(cls, prefix: ImagePrefix) -> Self:
        """Return the prefix of all keys whose image path begins with `prefix`."""
        return cls(COMPUTE_PREFIX + prefix.text)

    @classmethod
    def of_folder(cls, folder: ImagePath) -> Self:
        """Return the prefix of all keys in a folder, at any depth."""
        return cls(f"{COMPUTE_PREFIX}{folder.text}/")

    @classmethod
    def of_library(cls) -> Self:
        """Return the prefix of all keys of the media library."""
        return cls(MEDIA_PREFIX)


def path_of_key(text: str, *, at: tuple[str, ...]) -> ImagePath:
    """Parse untrusted text that should be the storage key of a path, `compute/<path>`.

    Raises:
        InvalidPath: the prefix is another one, or what follows is not a path.
    """
    if not text.startswith(COMPUTE_PREFIX):
        raise InvalidPath(f"must begin with `{COMPUTE_PREFIX}`", at=at)
    try:
        return ImagePath.parse(text.removeprefix(COMPUTE_PREFIX))
    except InvalidPath as error:
        raise InvalidPath(str(error), at=at) from error


def poster_of(video: StorageKey) -> StorageKey:
    """Return the key of the poster of a video.

    Raises:
        InvalidPath: the path would be too long.
    """
    return StorageKey.of_image(path_of_key(video.text + POSTER_SUFFIX, at=("path", "path")))


def image_key_bound(text: str) -> str:
    """Return the key after which a listing of images continues, for the entry `text`."""
    return COMPUTE_PREFIX + text


def image_entry(key_text: str) -> str:
    """Return a listed key or folder as clients see it, without `compute/`."""
    return key_text.removeprefix(COMPUTE_PREFIX)


def is_manifest(key_text: str) -> bool:
    """Return whether a listed key is that of a run's manifest."""
    if not key_text.endswith(f"/{MANIFEST_NAME}") or not key_text.startswith(COMPUTE_PREFIX):
        return False
    folder = key_text[len(COMPUTE_PREFIX) : -len(MANIFEST_NAME) - 1]
    return all(is_segment(segment) for segment in folder.split("/"))


def is_listed(name: str) -> bool:
    """Return whether a name in a folder, with a slash if it is a folder's, can be listed."""
    return name == MANIFEST_NAME or is_segment(name.rstrip("/"))


def unsafe_character(text: str) -> str | None:
    """Return the first forbidden character: a control, surrogate or invisible one, if any."""
    match = _FORBIDDEN.search(text)
    return None if match is None else match[0]


def is_segment(name: str) -> bool:
    """Return whether a name in a folder can be a segment of a path."""
    if _PLAIN_SEGMENT.fullmatch(name):
        return True
    try:
        _check_segment(name, whole=True)
    except InvalidPath:
        return False
    return True


def decode_query_text(raw: bytes, *, at: tuple[str, ...]) -> str:
    """Decode a name or value of a query strictly; `+` is a space, as in every form.

    Raises:
        InvalidPath: a broken escape or invalid UTF-8.
    """
    return _decode_once(raw.replace(b"+", b" "), at=at)


def _decode_once(raw: bytes, *, at: tuple[str, ...]) -> str:
    if _BROKEN_ESCAPE.search(raw):
        raise InvalidPath("a percent sign is not followed by two hexadecimal digits", at=at)
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidPath("not valid UTF-8", at=at) from None


def _check_length(text: str, *, at: tuple[str, ...] = ("path", "path")) -> None:
    limit = MAX_KEY_BYTES - len(COMPUTE_PREFIX)
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise InvalidPath(f"the path is {size} bytes long, the limit is {limit}", at=at)


def _check_start(text: str, *, at: tuple[str, ...]) -> None:
    if text.startswith("/"):
        raise InvalidPath("paths do not start with a slash", at=at)


def _check_segment(segment: str, *, whole: bool, at: tuple[str, ...] = ("path", "path")) -> None:
    """Refuse a segment that is unsafe, ambiguous or unprintable.

    With `whole=False` it is the beginning of a segment, as in a prefix. It may be empty or consist
    of dots, since more text can make it valid.
    """
    if _PLAIN_SEGMENT.fullmatch(segment):
        return
    if whole and not segment:
        raise InvalidPath("the path has an empty segment (a trailing or double slash)", at=at)
    if whole and segment in _DOT_SEGMENTS:
        raise InvalidPath("a segment is `.` or `..`", at=at)
    if "\\" in segment:
        raise InvalidPath("a backslash is not allowed", at=at)
    if character := unsafe_character(segment):
        raise InvalidPath(f"the character U+{ord(character):04X} is not allowed", at=at)
    if not unicodedata.is_normalized("NFC", segment):
        raise InvalidPath("not in Unicode normalization form C (NFC)", at=at)
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidPath(f"a segment is longer than {MAX_SEGMENT_BYTES} bytes", at=at)
    _check_reading(unicodedata.normalize("NFKC", segment), whole=whole, at=at)
    if "%" in segment:
        _check_reading(unquote(segment, errors="replace"), whole=whole, at=at)


def _check_reading(reading: str, *, whole: bool, at: tuple[str, ...]) -> None:
    """Refuse a segment that a careless program downstream could take for another path."""
    if whole and reading == MANIFEST_NAME:
        raise InvalidPath(f"`{MANIFEST_NAME}` is reserved for the manifest of a run", at=at)
    if (whole and reading in _DOT_SEGMENTS) or _NEVER_IN_A_READING.search(reading):
        raise InvalidPath(
            "a segment reads as a dot segment, slash, backslash or control once it is "
            "normalized (NFKC) or percent-decoded again",
            at=at,
        )
