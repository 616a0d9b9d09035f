"""Names: what a caller may call an image, and where its bytes are kept.

A caller's name becomes an `ImagePath` once, at the border, and an `ImagePath`
becomes a `StorageKey` here and nowhere else. Code behind the border takes
parsed values only, so no check can be forgotten. Refuse, never repair: a name
quietly cleaned is two names for one image.
"""

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote, unquote_to_bytes

from stillroom.errors import InvalidPath

COMPUTE_PREFIX: Final = "compute/"
"""Where the images of the five operations live, on every backend."""

MEDIA_PREFIX: Final = "media/"
"""Where the media library keeps its images; no path leads there."""

POSTER_SUFFIX: Final = ".poster.webp"
"""Behind the path of a video: the picture that stands for it where no frame can be decoded."""

MANIFEST_NAME: Final = ".run.json"
"""How the manifest of a run is called in its folder; no path has such a segment."""

MAX_KEY_BYTES: Final = 1024
"""Longest key with its prefix. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""

MAX_SEGMENT_BYTES: Final = 255
"""Longest file name on Linux filesystems (NAME_MAX), and on SeaweedFS."""

_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]{0,254}")
"""Names that no rule below can refuse: they are nearly all names, and this is quick."""

_PLAIN_TARGET = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""The same for whole paths that are written without escapes, up to the length of one segment."""

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
    """A caller's name for an image, such as `cats/2026/tom.webp`; checked, relative, NFC.

    Ordered as whole UTF-8 byte strings, since Python orders strings by code
    point and UTF-8 keeps that order.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Turn decoded, untrusted text into a path.

        Raises:
            InvalidPath: for every reason that `docs/adr/0004-refusals.md` lists.
        """
        _check_start(text, at=("path", "path"))
        for segment in text.split("/"):
            _check_segment(segment, whole=True)
        _check_length(text)
        return cls(text)

    @classmethod
    def from_target(cls, raw: bytes) -> Self:
        """Turn the raw bytes of a request target, behind the route's prefix, into a path.

        They are percent-decoded exactly once, and strictly.

        Raises:
            InvalidPath: also for a broken escape or invalid UTF-8.
        """
        if len(raw) <= MAX_SEGMENT_BYTES and _PLAIN_TARGET.fullmatch(raw):
            return cls(raw.decode("ascii"))
        return cls.parse(_decode_once(raw, at=("path", "path")))

    def quoted(self) -> str:
        """The path as it stands in a URL, slashes kept."""
        return quote(self.text, safe="/")


@dataclass(frozen=True, slots=True)
class ImagePrefix:
    """Literal text that a valid path can begin with; the empty one begins them all."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Turn untrusted text into a prefix.

        Raises:
            InvalidPath: no valid path begins with this text.
        """
        _check_start(text, at=("query", "prefix"))
        *folders, begun = text.split("/")
        for segment in folders:
            _check_segment(segment, whole=True, at=("query", "prefix"))
        _check_segment(begun, whole=False, at=("query", "prefix"))
        _check_length(text, at=("query", "prefix"))
        return cls(text)


@dataclass(frozen=True, slots=True, order=True)
class StorageKey:
    """Where bytes are kept, on every backend: `compute/<path>`, `media/<id>/file.<ext>`."""

    text: str

    @classmethod
    def of_image(cls, path: ImagePath) -> Self:
        """The key of an image that the five operations see."""
        return cls(COMPUTE_PREFIX + path.text)

    @classmethod
    def of_media(cls, resource_id: uuid.UUID, extension: str) -> Self:
        """The key of an image in the media library; never used again for other bytes."""
        return cls(f"{MEDIA_PREFIX}{resource_id}/file.{extension}")

    @classmethod
    def of_manifest(cls, folder: ImagePath) -> Self:
        """The key of the manifest of the run in a folder; no path leads there.

        Raises:
            InvalidPath: it would be too long.
        """
        _check_length(f"{folder.text}/{MANIFEST_NAME}", at=("path", "folder"))
        return cls(f"{COMPUTE_PREFIX}{folder.text}/{MANIFEST_NAME}")

    @property
    def is_media(self) -> bool:
        """Whether the media library made it, so that its bytes never change."""
        return self.text.startswith(MEDIA_PREFIX)

    @property
    def is_manifest(self) -> bool:
        """Whether it is that of a run's manifest."""
        return is_manifest(self.text)


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """Literal text at the beginning of keys, for a listing."""

    text: str

    @classmethod
    def of_images(cls, prefix: ImagePrefix) -> Self:
        """All keys whose image path begins with `prefix`."""
        return cls(COMPUTE_PREFIX + prefix.text)

    @classmethod
    def of_folder(cls, folder: ImagePath) -> Self:
        """All keys in a folder, on whatever level."""
        return cls(f"{COMPUTE_PREFIX}{folder.text}/")

    @classmethod
    def of_library(cls) -> Self:
        """All keys of the media library."""
        return cls(MEDIA_PREFIX)


def path_of_key(text: str, *, at: tuple[str, ...]) -> ImagePath:
    """The image path in untrusted text that should be its storage key, `compute/<path>`.

    Raises:
        InvalidPath: it begins otherwise, or what follows is no path.
    """
    if not text.startswith(COMPUTE_PREFIX):
        raise InvalidPath(f"must begin with `{COMPUTE_PREFIX}`", at=at)
    try:
        return ImagePath.parse(text.removeprefix(COMPUTE_PREFIX))
    except InvalidPath as error:
        raise InvalidPath(str(error), at=at) from error


def poster_of(video: StorageKey) -> StorageKey:
    """Where the poster of a video is saved.

    Raises:
        InvalidPath: the path would be too long.
    """
    return StorageKey.of_image(path_of_key(video.text + POSTER_SUFFIX, at=("path", "path")))


def image_key_bound(text: str) -> str:
    """Where in the order of keys a listing of images goes on after the entry `text`."""
    return COMPUTE_PREFIX + text


def image_entry(key_text: str) -> str:
    """What a caller sees of a listed key or folder: its text without `compute/`."""
    return key_text.removeprefix(COMPUTE_PREFIX)


def is_manifest(key_text: str) -> bool:
    """Whether a key on a medium is that of a run's manifest."""
    if not key_text.endswith(f"/{MANIFEST_NAME}") or not key_text.startswith(COMPUTE_PREFIX):
        return False
    folder = key_text[len(COMPUTE_PREFIX) : -len(MANIFEST_NAME) - 1]
    return all(is_segment(segment) for segment in folder.split("/"))


def is_listed(name: str) -> bool:
    """Whether a name found in a folder, a folder's with a slash, is an image's or a manifest's."""
    return name == MANIFEST_NAME or is_segment(name.rstrip("/"))


def unsafe_character(text: str) -> str | None:
    """The first character that no name may have: a control, a surrogate, an invisible one."""
    found = _FORBIDDEN.search(text)
    return None if found is None else found[0]


def is_segment(name: str) -> bool:
    """Whether a name found on a medium can be part of a path at all."""
    if _PLAIN_SEGMENT.fullmatch(name):
        return True
    try:
        _check_segment(name, whole=True)
    except InvalidPath:
        return False
    return True


def decode_query_text(raw: bytes, *, at: tuple[str, ...]) -> str:
    """Decode one name or value of a query strictly; `+` is a space, as in every form.

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

    With `whole=False` the segment is only begun, as in a prefix: what more
    text could still mend (being empty, or dots) passes.
    """
    if _PLAIN_SEGMENT.fullmatch(segment):
        return
    if whole and not segment:
        raise InvalidPath("the path has an empty segment (a trailing or double slash)", at=at)
    if whole and segment in _DOT_SEGMENTS:
        raise InvalidPath("a segment is `.` or `..`", at=at)
    if "\\" in segment:
        raise InvalidPath("a backslash is not allowed", at=at)
    if found := unsafe_character(segment):
        raise InvalidPath(f"the character U+{ord(found):04X} is not allowed", at=at)
    if not unicodedata.is_normalized("NFC", segment):
        raise InvalidPath("not in Unicode normalization form C (NFC)", at=at)
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidPath(f"a segment is longer than {MAX_SEGMENT_BYTES} bytes", at=at)
    _check_reading(unicodedata.normalize("NFKC", segment), whole=whole, at=at)
    if "%" in segment:
        _check_reading(unquote(segment, errors="replace"), whole=whole, at=at)


def _check_reading(reading: str, *, whole: bool, at: tuple[str, ...]) -> None:
    """Refuse a segment that a careless reader behind us could take for another path."""
    if whole and reading == MANIFEST_NAME:
        raise InvalidPath(f"`{MANIFEST_NAME}` is reserved for the manifest of a run", at=at)
    if (whole and reading in _DOT_SEGMENTS) or _NEVER_IN_A_READING.search(reading):
        raise InvalidPath(
            "a segment reads as a dot segment, slash, backslash or control once it is "
            "normalized (NFKC) or percent-decoded again",
            at=at,
        )
