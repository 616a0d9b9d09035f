"""Permission check and query parameters of the media library's operations."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import Request

from stillroom.features.search.facts_query import FactsParameters, Tags
from stillroom.paths import COMPUTE_PREFIX, ImagePrefix, KeyPrefix, StorageKey, path_of_key
from stillroom.store.api.call import Call
from stillroom.store.auth.grants import Authorize
from stillroom.store.http import parameters

MAX_LIMIT: Final = 1000

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


async def library_call(request: Request, authorize: Authorize) -> Call:
    """Authenticate a request, and require that its token grants access to the whole library."""
    call = await Call.of(request, authorize)
    call.grant.require_everywhere("media")
    return call


def _sha256(text: str) -> bytes:
    if not _SHA256.fullmatch(text):
        raise ValueError("must be 64 hexadecimal digits")
    return bytes.fromhex(text)


def _source_prefix(text: str) -> KeyPrefix:
    if not text.startswith(COMPUTE_PREFIX):
        raise ValueError(f"must begin with {COMPUTE_PREFIX}")
    return KeyPrefix.of_images(ImagePrefix.parse(text.removeprefix(COMPUTE_PREFIX)))


_AfterId = Annotated[
    uuid.UUID | None,
    parameters.Parameter(
        parameters.resource_id,
        {"type": "string", "format": "uuid"},
        "Only items older than this id, the last one of the previous page.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageParameters:
    """Query parameters for listing dead letters."""

    limit: Annotated[int, parameters.page_size("Letters", MAX_LIMIT)] = parameters.DEFAULT_LIMIT
    start_after: _AfterId = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaParameters:
    """Query parameters of `GET /media-resources`. A filter that is None matches all resources."""

    limit: Annotated[int, parameters.page_size("Resources", MAX_LIMIT)] = parameters.DEFAULT_LIMIT
    start_after: _AfterId = None
    content_hash: Annotated[
        bytes | None,
        parameters.Parameter(
            _sha256, {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"}, "SHA-256."
        ),
    ] = None
    content_type: parameters.ContentType = None
    resource_type: Annotated[str | None, parameters.visible_name()] = None
    created_from: Annotated[
        datetime | None, parameters.moment("Created at this time or later.")
    ] = None
    created_before: Annotated[datetime | None, parameters.moment("Created before this time.")] = (
        None
    )
    facts: FactsParameters
    tags: Tags = ()
    source_keys: Annotated[
        tuple[StorageKey, ...],
        parameters.repeatable(
            "source_key",
            "Only resources ingested from this storage key, or from one of several.",
            lambda text: StorageKey.of_image(path_of_key(text, at=())),
        ),
    ] = ()
    source_prefix: Annotated[
        KeyPrefix | None,
        parameters.Parameter(
            _source_prefix,
            {"type": "string"},
            "Only resources ingested from a storage key that begins with this, such as "
            "`compute/run/`, or whose file has such a key.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeParameters:
    """Query parameters of the operation that changes a resource."""

    only_unset: Annotated[
        bool, parameters.boolean("`true` sets only properties that are null, and ignores the rest.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionParameters:
    """Query parameters of the operation that deletes a resource."""

    now: Annotated[
        bool,
        parameters.boolean(
            "`true` deletes the bytes before the response, without a grace period. The token "
            "needs the scope `storage:delete`."
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedTagsParameters:
    """Query parameters of the operation that removes tags."""

    tags: Annotated[
        tuple[str, ...],
        parameters.repeatable(
            "tag",
            "Tags to remove. Without this parameter and without a body, all tags are removed.",
        ),
    ] = ()
