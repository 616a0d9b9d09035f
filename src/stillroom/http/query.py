"""Dataclasses that declare the query parameters of operations, except for search and thumbnails."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from stillroom.errors import InvalidParameter
from stillroom.http.facts_query import FactsParameters
from stillroom.http.parameters import (
    DEFAULT_LIMIT,
    EVERY_PATH,
    ContentType,
    Parameter,
    Prefix,
    Tags,
    choice,
    moment,
    next_page,
    page_size,
    repeatable,
    resource_id,
    visible_name,
)
from stillroom.paths import ImagePath, ImagePrefix, StorageKey, path_of_key

MAX_LIMIT: Final = 10_000
"""Maximum page size. If a request has a larger `limit`, this one is used."""

MAX_MEDIA_LIMIT: Final = 1000

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_TEXT: Final = {"type": "string", "default": ""}


def _delimited(text: str) -> bool:
    if text not in ("", "/"):
        raise ValueError("must be `/`, since no other delimiter is supported")
    return text == "/"


def _sha256(text: str) -> bytes:
    if not _SHA256.fullmatch(text):
        raise ValueError("must be 64 hexadecimal digits")
    return bytes.fromhex(text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _path(text: str) -> str:
    return ImagePath.parse(text).text if text else ""


def _source_key(text: str) -> StorageKey:
    return StorageKey.of_image(path_of_key(text, at=()))


def _time(description: str) -> Parameter:
    return Parameter(moment, {"type": "string", "format": "date-time"}, description)


_AfterId = Annotated[
    uuid.UUID | None,
    Parameter(
        resource_id,
        {"type": "string", "format": "uuid"},
        "Only items older than this id, the last one of the previous page.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListParameters:
    """Query parameters of `GET /storage/images` and `GET /storage/entries`."""

    prefix: Prefix = EVERY_PATH
    limit: Annotated[int, page_size("Entries", MAX_LIMIT)] = DEFAULT_LIMIT
    start_after: Annotated[
        str,
        Parameter(
            str,
            _TEXT,
            "Only entries after this one, which is the last entry of the previous page.",
        ),
    ] = ""
    delimited: Annotated[
        bool,
        Parameter(
            _delimited,
            {"type": "string", "pattern": "^/?$", "default": ""},
            "`/` folds deeper levels into folders.",
            name="delimiter",
        ),
    ] = False

    def link_to_next(self, last_entry: str) -> str:
        """Return a `Link` header to the page after the one that ends with `last_entry`."""
        return next_page(
            prefix=self.prefix.text or None,
            start_after=last_entry,
            limit=self.limit,
            delimiter="/" if self.delimited else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveParameters:
    """Query parameters of `GET /storage/archive`."""

    prefix: Prefix = EVERY_PATH
    sidecars: Annotated[
        str | None,
        choice(
            "captions",
            description="`captions`: adds a text file with the prompt for each image that contains "
            "one.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsParameters:
    """Query parameters of `GET /storage/runs`. If `state` is None, all runs are listed."""

    prefix: Annotated[
        ImagePrefix,
        Parameter(
            ImagePrefix.parse,
            _TEXT,
            "Literal text that folders begin with, compared with a trailing slash.",
        ),
    ] = EVERY_PATH
    limit: Annotated[int, page_size("Runs", MAX_LIMIT)] = DEFAULT_LIMIT
    start_after: Annotated[
        str,
        Parameter(
            _path,
            _TEXT,
            "Only runs after this folder, the last one of the previous page. Not with a sort by "
            "time.",
        ),
    ] = ""
    state: Annotated[
        str | None, choice("published", "open", description="Only runs in this state.")
    ] = None
    sort: Annotated[
        str,
        choice(
            "folder",
            "published",
            "-published",
            default="folder",
            description="Sorted by time, the list has one page, and open runs come last.",
        ),
    ] = "folder"

    def __post_init__(self) -> None:
        if self.start_after and self.sort != "folder":
            raise InvalidParameter("can be used only with sort=folder", at=("query", "start_after"))

    def link_to_next(self, last_folder: str) -> str:
        """Return a `Link` header to the page after the one that ends with `last_folder`."""
        return next_page(
            prefix=self.prefix.text or None,
            state=self.state,
            start_after=last_folder,
            limit=self.limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageParameters:
    """Query parameters for listing dead letters, which are deletions that failed permanently."""

    limit: Annotated[int, page_size("Letters", MAX_MEDIA_LIMIT)] = DEFAULT_LIMIT
    start_after: _AfterId = None

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """Return a `Link` header to the page after the one that ends with `last_id`."""
        return next_page(limit=self.limit, start_after=last_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaParameters:
    """Query parameters of `GET /media-resources`. A filter that is None matches all resources."""

    limit: Annotated[int, page_size("Resources", MAX_MEDIA_LIMIT)] = DEFAULT_LIMIT
    start_after: _AfterId = None
    content_hash: Annotated[
        bytes | None,
        Parameter(_sha256, {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"}, "SHA-256."),
    ] = None
    content_type: ContentType = None
    resource_type: Annotated[str | None, visible_name()] = None
    created_from: Annotated[datetime | None, _time("Created at this time or later.")] = None
    created_before: Annotated[datetime | None, _time("Created before this time.")] = None
    facts: FactsParameters
    tags: Tags = ()
    source_keys: Annotated[
        tuple[StorageKey, ...],
        repeatable(
            "source_key",
            "Only resources ingested from this storage key, or from one of several.",
            _source_key,
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeParameters:
    """Query parameters of the operation that changes a resource."""

    only_unset: Annotated[
        bool,
        Parameter(
            _boolean,
            {"type": "boolean"},
            "`true` sets only properties that are null, and ignores the rest.",
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedTagsParameters:
    """Query parameters of the operation that removes tags."""

    tags: Annotated[
        tuple[str, ...],
        repeatable(
            "tag",
            "Tags to remove. Without this parameter and without a body, all tags are removed.",
        ),
    ] = ()
