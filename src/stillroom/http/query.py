"""The query parameters of each operation: tables for the OpenAPI document, and their readers."""

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
"""A larger `limit` counts as this one."""

MAX_MEDIA_LIMIT: Final = 1000

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


def _prefix(text: str, at: Place) -> ImagePrefix:
    del at  # a prefix that no path can have is an InvalidPath, which names its own
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
    "Only entries behind this one: a page's last entry.",
)
_DELIMITER: Final = Parameter(
    "delimiter",
    _delimited,
    absent=False,
    schema={"type": "string", "pattern": "^/?$", "default": ""},
    description="`/` folds deeper levels into folders.",
)
LIST_QUERY: Final = (PREFIX, _LIMIT, _START_AFTER, _DELIMITER)
"""Of the listings of images."""

_RUN_PREFIX: Final = Parameter(
    "prefix",
    _prefix,
    ImagePrefix(""),
    {"type": "string", "default": ""},
    "Literal text that folders begin with, each with a slash behind it.",
)
_RUNS: Final = limit_parameter("Runs", MAX_LIMIT)
_AFTER_RUN: Final = Parameter(
    "start_after",
    _path,
    "",
    {"type": "string", "default": ""},
    "Only runs behind this folder: a page's last one. Not with a sort by time.",
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
    description="By time the list has one page, and open runs come last.",
)
RUNS_QUERY: Final = (_RUN_PREFIX, _RUNS, _AFTER_RUN, _STATE, _SORT)
"""Of the listing of runs."""

_SIDECARS: Final[Parameter[str | None]] = choice(
    "sidecars",
    "captions",
    absent=None,
    description="`captions`: beside each image that tells its prompt a text file with it.",
)
ARCHIVE_QUERY: Final = (PREFIX, _SIDECARS)
"""Of an archive."""

_AFTER_ID: Final[Parameter[uuid.UUID | None]] = Parameter(
    "start_after",
    resource_id,
    None,
    or_null(type="string", format="uuid"),
    "Only older ones: a page's last id.",
)
_DEAD_LETTERS: Final = limit_parameter("Letters", MAX_MEDIA_LIMIT)
PAGE_QUERY: Final = (_DEAD_LETTERS, _AFTER_ID)
"""Of a listing by ids."""

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
    "created_from", moment, None, _MOMENT, "Then or later."
)
_CREATED_BEFORE: Final[Parameter[datetime | None]] = Parameter(
    "created_before", moment, None, _MOMENT, "Earlier."
)
_TEXTS: Final = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_TIMES}
TAG_FILTER: Final[Parameter[tuple[str, ...]]] = Parameter(
    "tag",
    lambda text, _: (text,),
    (),
    _TEXTS,
    "Only what has this tag; `-cat` leaves out what has the tag `cat`. Several must all hold.",
)
_SOURCE_KEYS: Final[Parameter[tuple[str, ...]]] = Parameter(
    "source_key",
    lambda text, _: (text,),
    (),
    _TEXTS,
    "Only what was first taken from this storage key, or from one of several.",
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
"""Of the media library's listing."""

_ONLY_UNSET: Final = Parameter(
    "only_unset",
    _boolean,
    absent=False,
    schema={"type": "boolean"},
    description="`true` fills what is null, and leaves the rest alone without a word.",
)
CHANGE_QUERY: Final = (_ONLY_UNSET,)
"""Of a change of a resource."""

_REMOVED_TAG: Final[Parameter[tuple[str, ...]]] = Parameter(
    "tag", lambda text, _: (text,), (), _TEXTS, "Only these; without any, and without a body, all."
)
REMOVED_TAGS_QUERY: Final = (_REMOVED_TAG,)
"""Of tags that are taken away."""


@dataclass(frozen=True, slots=True)
class ListParameters:
    """What `GET /storage/images` was asked for."""

    prefix: ImagePrefix
    start_after: str
    limit: int
    delimited: bool

    def link_to_next(self, last_entry: str) -> str:
        """The `Link` field of a page that was cut behind `last_entry` (RFC 8288)."""
        query = f"start_after={quote(last_entry, safe='')}&limit={self.limit}"
        if self.prefix.text:
            query = f"prefix={quote(self.prefix.text, safe='')}&{query}"
        if self.delimited:
            query += "&delimiter=%2F"
        return f'<?{query}>; rel="next"'


def parse_list_query(raw: bytes) -> ListParameters:
    """Read the query of a listing. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, or a prefix that no path can have.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = read_query(raw, LIST_QUERY)
    return ListParameters(
        delimited=_DELIMITER.read(given),
        prefix=PREFIX.read(given),
        start_after=_START_AFTER.read(given),
        limit=_LIMIT.read(given),
    )


@dataclass(frozen=True, slots=True)
class ArchiveParameters:
    """What `GET /storage/archive` was asked for."""

    prefix: ImagePrefix
    captions: bool


def parse_archive_query(raw: bytes) -> ArchiveParameters:
    """Read the query of an archive. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, or a prefix that no path can have.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = read_query(raw, ARCHIVE_QUERY)
    return ArchiveParameters(PREFIX.read(given), _SIDECARS.read(given) is not None)


@dataclass(frozen=True, slots=True)
class RunsParameters:
    """What `GET /storage/runs` was asked for; without a `state` runs in both."""

    prefix: ImagePrefix
    start_after: str
    limit: int
    state: str | None
    sort: str

    def link_to_next(self, last_folder: str) -> str:
        """The `Link` field of a page that was cut behind `last_folder` (RFC 8288)."""
        given = {"prefix": self.prefix.text, "state": self.state or "", "start_after": last_folder}
        pairs = [(name, value) for name, value in given.items() if value]
        query = urlencode([*pairs, ("limit", str(self.limit))], quote_via=quote, safe="")
        return f'<?{query}>; rel="next"'


def parse_runs_query(raw: bytes) -> RunsParameters:
    """Read the query of the listing of runs. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, or what no folder can be called.
        InvalidParameter: a parameter given twice, of the wrong form, or in place of another.
    """
    given = read_query(raw, RUNS_QUERY)
    asked = RunsParameters(
        prefix=_RUN_PREFIX.read(given),
        limit=_RUNS.read(given),
        start_after=_AFTER_RUN.read(given),
        state=_STATE.read(given),
        sort=_SORT.read(given),
    )
    if asked.start_after and asked.sort != "folder":
        raise InvalidParameter("a list by time has one page", at=("query", "start_after"))
    return asked


@dataclass(frozen=True, slots=True)
class PageParameters:
    """What a listing by ids was asked for."""

    limit: int
    start_after: uuid.UUID | None

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """The `Link` field of a page that was cut behind `last_id` (RFC 8288)."""
        return f'<?limit={self.limit}&start_after={last_id}>; rel="next"'


def parse_page_query(raw: bytes) -> PageParameters:
    """Read the query of a listing by ids. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = read_query(raw, PAGE_QUERY)
    return PageParameters(limit=_DEAD_LETTERS.read(given), start_after=_AFTER_ID.read(given))


@dataclass(frozen=True, slots=True)
class MediaParameters:
    """What `GET /media-resources` was asked for; None where anything will do."""

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
    given: tuple[tuple[str, str], ...]

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """The `Link` field of a page that was cut behind `last_id` (RFC 8288)."""
        kept = [pair for pair in self.given if pair[0] != "start_after"]
        return f'<?{urlencode([*kept, ("start_after", str(last_id))])}>; rel="next"'


def parse_media_query(raw: bytes) -> MediaParameters:
    """Read the query of the media library's listing. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    several = (TAG_FILTER, _SOURCE_KEYS)
    given = read_query(raw, [one for one in MEDIA_QUERY if one not in several])
    tags, sources = (read_texts(raw, one) for one in several)
    return MediaParameters(
        content_hash=_CONTENT_HASH.read(given),
        limit=_RESOURCES.read(given),
        start_after=_AFTER_ID.read(given),
        content_type=_CONTENT_TYPE.read(given),
        resource_type=_RESOURCE_TYPE.read(given),
        created_from=_CREATED_FROM.read(given),
        created_before=_CREATED_BEFORE.read(given),
        facts=read_facts(given),
        tags=tags,
        source_keys=tuple(_source_key(text) for text in sources),
        given=(
            *given.items(),
            *((TAG_FILTER.name, tag) for tag in tags),
            *((_SOURCE_KEYS.name, text) for text in sources),
        ),
    )


def _source_key(text: str) -> StorageKey:
    return StorageKey.of_image(path_of_key(text, at=("query", _SOURCE_KEYS.name)))


def parse_change_query(raw: bytes) -> bool:
    """Whether a change fills only what is null.

    Raises:
        InvalidPath: text that is not valid UTF-8.
        InvalidParameter: given twice, or of the wrong form.
    """
    return _ONLY_UNSET.read(read_query(raw, CHANGE_QUERY))


def parse_removed_tags_query(raw: bytes) -> tuple[str, ...]:
    """The tags that are to be taken away.

    Raises:
        InvalidPath: text that is not valid UTF-8.
        InvalidParameter: more than can be.
    """
    return read_texts(raw, _REMOVED_TAG)
