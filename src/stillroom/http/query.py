"""Query parameters of each operation: tables for the OpenAPI document, and parsers.

All parsers ignore unknown parameters. They raise `InvalidPath` for invalid UTF-8 and for prefixes
with which no path can begin, and `InvalidParameter` for repeated parameters and invalid values.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from stillroom.errors import InvalidParameter, InvalidPath
from stillroom.http.facts_query import FACTS_QUERY, FactsParameters, read_facts
from stillroom.http.parameters import (
    MAX_TIMES,
    Parameter,
    Place,
    choice,
    limit_parameter,
    moment,
    or_null,
    read_query,
    read_texts,
    resource_id,
    visible_name,
)
from stillroom.paths import ImagePath, ImagePrefix, StorageKey, path_of_key

MAX_LIMIT: Final = 10_000
"""Maximum page size. A larger `limit` is reduced to it."""

MAX_MEDIA_LIMIT: Final = 1000

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


def _prefix(text: str, at: Place) -> ImagePrefix:
    del at  # `ImagePrefix.parse` adds the location itself
    return ImagePrefix.parse(text)


def _delimited(text: str, at: Place) -> bool:
    if text not in ("", "/"):
        raise InvalidParameter("the only delimiter is `/`", at=at)
    return text == "/"


def _sha256(text: str, at: Place) -> bytes:
    if not _SHA256.fullmatch(text):
        raise InvalidParameter("must be 64 hexadecimal digits", at=at)
    return bytes.fromhex(text)


def _boolean(text: str, at: Place) -> bool:
    if text not in ("true", "false"):
        raise InvalidParameter("must be true or false", at=at)
    return text == "true"


def _path(text: str, at: Place) -> str:
    try:
        return ImagePath.parse(text).text if text else ""
    except InvalidPath as error:
        raise InvalidPath(str(error), at=at) from error


PREFIX: Final = Parameter(
    "prefix",
    _prefix,
    ImagePrefix(""),
    {"type": "string", "default": ""},
    "Literal text that paths begin with.",
)
_LIMIT: Final = limit_parameter("Entries", MAX_LIMIT)
_START_AFTER: Final = Parameter(
    "start_after",
    lambda text, _: text,
    "",
    {"type": "string", "default": ""},
    "Only entries after this one, which is the last entry of the previous page.",
)
_DELIMITER: Final = Parameter(
    "delimiter",
    _delimited,
    absent=False,
    schema={"type": "string", "pattern": "^/?$", "default": ""},
    description="`/` folds deeper levels into folders.",
)
LIST_QUERY: Final = (PREFIX, _LIMIT, _START_AFTER, _DELIMITER)
"""Query parameters of the image listings."""

_RUN_PREFIX: Final = Parameter(
    "prefix",
    _prefix,
    ImagePrefix(""),
    {"type": "string", "default": ""},
    "Literal text that folders begin with, compared with a trailing slash.",
)
_RUNS: Final = limit_parameter("Runs", MAX_LIMIT)
_AFTER_RUN: Final = Parameter(
    "start_after",
    _path,
    "",
    {"type": "string", "default": ""},
    "Only runs after this folder, the last one of the previous page. Not with a sort by time.",
)
_STATE: Final[Parameter[str | None]] = choice(
    "state", "published", "open", absent=None, description="Only runs in this state."
)
_SORT: Final[Parameter[str]] = choice(
    "sort",
    "folder",
    "published",
    "-published",
    absent="folder",
    description="Sorted by time, the list has one page, and open runs come last.",
)
RUNS_QUERY: Final = (_RUN_PREFIX, _RUNS, _AFTER_RUN, _STATE, _SORT)
"""Query parameters of the run listing."""

_SIDECARS: Final[Parameter[str | None]] = choice(
    "sidecars",
    "captions",
    absent=None,
    description="`captions`: adds a text file with the prompt for each image that contains one.",
)
ARCHIVE_QUERY: Final = (PREFIX, _SIDECARS)
"""Query parameters of an archive download."""

_AFTER_ID: Final[Parameter[uuid.UUID | None]] = Parameter(
    "start_after",
    resource_id,
    None,
    or_null(type="string", format="uuid"),
    "Only items older than this id, the last one of the previous page.",
)
_DEAD_LETTERS: Final = limit_parameter("Letters", MAX_MEDIA_LIMIT)
PAGE_QUERY: Final = (_DEAD_LETTERS, _AFTER_ID)
"""Query parameters of listings in the order of ids."""

_RESOURCES: Final = limit_parameter("Resources", MAX_MEDIA_LIMIT)
_CONTENT_HASH: Final[Parameter[bytes | None]] = Parameter(
    "content_hash", _sha256, None, or_null(type="string", pattern="^[0-9A-Fa-f]{64}$"), "SHA-256."
)
_NAME: Final = or_null(type="string", pattern="^[!-~]{1,255}$")
_CONTENT_TYPE: Final[Parameter[str | None]] = Parameter(
    "content_type", visible_name, None, _NAME, "Such as `image/png`."
)
_RESOURCE_TYPE: Final[Parameter[str | None]] = Parameter("resource_type", visible_name, None, _NAME)
_MOMENT: Final = or_null(type="string", format="date-time")
_CREATED_FROM: Final[Parameter[datetime | None]] = Parameter(
    "created_from", moment, None, _MOMENT, "Created at this time or later."
)
_CREATED_BEFORE: Final[Parameter[datetime | None]] = Parameter(
    "created_before", moment, None, _MOMENT, "Created before this time."
)
_TEXTS: Final = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_TIMES}
TAG_FILTER: Final[Parameter[tuple[str, ...]]] = Parameter(
    "tag",
    lambda text, _: (text,),
    (),
    _TEXTS,
    "Only resources with this tag; `-cat` excludes the tag `cat`. Repeated ones must all match.",
)
_SOURCE_KEYS: Final[Parameter[tuple[str, ...]]] = Parameter(
    "source_key",
    lambda text, _: (text,),
    (),
    _TEXTS,
    "Only resources ingested from this storage key, or from one of several.",
)
MEDIA_QUERY: Final = (
    _RESOURCES,
    _AFTER_ID,
    _CONTENT_HASH,
    _CONTENT_TYPE,
    _RESOURCE_TYPE,
    _CREATED_FROM,
    _CREATED_BEFORE,
    *FACTS_QUERY,
    TAG_FILTER,
    _SOURCE_KEYS,
)
"""Query parameters of the media library's listing."""

_ONLY_UNSET: Final = Parameter(
    "only_unset",
    _boolean,
    absent=False,
    schema={"type": "boolean"},
    description="`true` sets only properties that are null, and ignores the rest.",
)
CHANGE_QUERY: Final = (_ONLY_UNSET,)
"""Query parameters for changing a resource."""

_REMOVED_TAG: Final[Parameter[tuple[str, ...]]] = Parameter(
    "tag",
    lambda text, _: (text,),
    (),
    _TEXTS,
    "Tags to remove. Without this parameter and without a body, all tags are removed.",
)
REMOVED_TAGS_QUERY: Final = (_REMOVED_TAG,)
"""Query parameters for removing tags."""


@dataclass(frozen=True, slots=True)
class ListParameters:
    """Parsed query of `GET /storage/images`."""

    prefix: ImagePrefix
    start_after: str
    limit: int
    delimited: bool

    def link_to_next(self, last_entry: str) -> str:
        """Return the `Link` header for a page that ends with `last_entry` (RFC 8288)."""
        query = f"start_after={quote(last_entry, safe='')}&limit={self.limit}"
        if self.prefix.text:
            query = f"prefix={quote(self.prefix.text, safe='')}&{query}"
        if self.delimited:
            query += "&delimiter=%2F"
        return f'<?{query}>; rel="next"'


def parse_list_query(raw: bytes) -> ListParameters:
    """Parse the query of an image listing."""
    texts = read_query(raw, LIST_QUERY)
    return ListParameters(
        delimited=_DELIMITER.read(texts),
        prefix=PREFIX.read(texts),
        start_after=_START_AFTER.read(texts),
        limit=_LIMIT.read(texts),
    )


@dataclass(frozen=True, slots=True)
class ArchiveParameters:
    """Parsed query of `GET /storage/archive`."""

    prefix: ImagePrefix
    captions: bool


def parse_archive_query(raw: bytes) -> ArchiveParameters:
    """Parse the query of an archive download."""
    texts = read_query(raw, ARCHIVE_QUERY)
    return ArchiveParameters(PREFIX.read(texts), _SIDECARS.read(texts) is not None)


@dataclass(frozen=True, slots=True)
class RunsParameters:
    """Parsed query of `GET /storage/runs`. If `state` is None, runs in both states are listed."""

    prefix: ImagePrefix
    start_after: str
    limit: int
    state: str | None
    sort: str

    def link_to_next(self, last_folder: str) -> str:
        """Return the `Link` header for a page that ends with `last_folder` (RFC 8288)."""
        texts = {"prefix": self.prefix.text, "state": self.state or "", "start_after": last_folder}
        pairs = [(name, value) for name, value in texts.items() if value]
        query = urlencode([*pairs, ("limit", str(self.limit))], quote_via=quote, safe="")
        return f'<?{query}>; rel="next"'


def parse_runs_query(raw: bytes) -> RunsParameters:
    """Parse the query of the run listing. `start_after` is invalid if runs are sorted by time."""
    texts = read_query(raw, RUNS_QUERY)
    parameters = RunsParameters(
        prefix=_RUN_PREFIX.read(texts),
        limit=_RUNS.read(texts),
        start_after=_AFTER_RUN.read(texts),
        state=_STATE.read(texts),
        sort=_SORT.read(texts),
    )
    if parameters.start_after and parameters.sort != "folder":
        raise InvalidParameter("must be omitted with this sort", at=("query", "start_after"))
    return parameters


@dataclass(frozen=True, slots=True)
class PageParameters:
    """Parsed query of a listing that is sorted by id."""

    limit: int
    start_after: uuid.UUID | None

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """Return the `Link` header for a page that ends with `last_id` (RFC 8288)."""
        return f'<?limit={self.limit}&start_after={last_id}>; rel="next"'


def parse_page_query(raw: bytes) -> PageParameters:
    """Parse `limit` and `start_after` of a listing that is sorted by id, such as dead letters."""
    texts = read_query(raw, PAGE_QUERY)
    return PageParameters(limit=_DEAD_LETTERS.read(texts), start_after=_AFTER_ID.read(texts))


@dataclass(frozen=True, slots=True)
class MediaParameters:
    """Parsed query of `GET /media-resources`. Filters that are None accept any value.

    Attributes:
        texts: Decoded texts of all parameters by name, for the link to the next page.
    """

    limit: int
    start_after: uuid.UUID | None
    content_hash: bytes | None
    content_type: str | None
    resource_type: str | None
    created_from: datetime | None
    created_before: datetime | None
    facts: FactsParameters
    tags: tuple[str, ...]
    source_keys: tuple[StorageKey, ...]
    texts: tuple[tuple[str, str], ...]

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """Return the `Link` header for a page that ends with `last_id` (RFC 8288)."""
        pairs = [pair for pair in self.texts if pair[0] != "start_after"]
        return f'<?{urlencode([*pairs, ("start_after", str(last_id))])}>; rel="next"'


def parse_media_query(raw: bytes) -> MediaParameters:
    """Parse the query of the media library's listing."""
    repeatable = (TAG_FILTER, _SOURCE_KEYS)
    texts = read_query(raw, [each for each in MEDIA_QUERY if each not in repeatable])
    tags, sources = (read_texts(raw, parameter) for parameter in repeatable)
    return MediaParameters(
        content_hash=_CONTENT_HASH.read(texts),
        limit=_RESOURCES.read(texts),
        start_after=_AFTER_ID.read(texts),
        content_type=_CONTENT_TYPE.read(texts),
        resource_type=_RESOURCE_TYPE.read(texts),
        created_from=_CREATED_FROM.read(texts),
        created_before=_CREATED_BEFORE.read(texts),
        facts=read_facts(texts),
        tags=tags,
        source_keys=tuple(_source_key(text) for text in sources),
        texts=(
            *texts.items(),
            *((TAG_FILTER.name, tag) for tag in tags),
            *((_SOURCE_KEYS.name, text) for text in sources),
        ),
    )


def _source_key(text: str) -> StorageKey:
    return StorageKey.of_image(path_of_key(text, at=("query", _SOURCE_KEYS.name)))


def parse_change_query(raw: bytes) -> bool:
    """Parse the query for changing a resource: whether to set only properties that are null."""
    return _ONLY_UNSET.read(read_query(raw, CHANGE_QUERY))


def parse_removed_tags_query(raw: bytes) -> tuple[str, ...]:
    """Parse the query for removing tags, and return the tags."""
    return read_texts(raw, _REMOVED_TAG)
