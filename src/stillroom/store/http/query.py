"""Dataclasses that declare the query parameters of operations, except for search and thumbnails."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from stillroom.errors import InvalidParameter
from stillroom.features.search.facts_query import FactsParameters
from stillroom.paths import ImagePath, ImagePrefix, StorageKey, path_of_key
from stillroom.store.http.parameters import (
    DEFAULT_LIMIT,
    EVERY_PATH,
    ContentType,
    Parameter,
    Prefix,
    Tags,
    choice,
    moment,
    page_size,
    path_prefix,
    repeatable,
    resource_id,
    visible_name,
)

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
            str, _TEXT, "Only entries after this one, which is the last entry of the previous page."
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
        path_prefix("Literal text that folders begin with, compared with a trailing slash."),
    ] = EVERY_PATH
    limit: Annotated[int, page_size("Runs", MAX_LIMIT)] = DEFAULT_LIMIT
    start_after: Annotated[
        str,
        Parameter(
            lambda text: ImagePath.parse(text).text if text else "",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PageParameters:
    """Query parameters for listing dead letters, which are deletions that failed permanently."""

    limit: Annotated[int, page_size("Letters", MAX_MEDIA_LIMIT)] = DEFAULT_LIMIT
    start_after: _AfterId = None


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
    created_from: Annotated[datetime | None, moment("Created at this time or later.")] = None
    created_before: Annotated[datetime | None, moment("Created before this time.")] = None
    facts: FactsParameters
    tags: Tags = ()
    source_keys: Annotated[
        tuple[StorageKey, ...],
        repeatable(
            "source_key",
            "Only resources ingested from this storage key, or from one of several.",
            lambda text: StorageKey.of_image(path_of_key(text, at=())),
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
