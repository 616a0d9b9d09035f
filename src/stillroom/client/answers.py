"""Functions that convert a response to a value, or to an exception if it is an error."""

import base64
import binascii
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import NoneType
from typing import Any, Final, TypeVar, get_args, get_type_hints

from stillroom import errors
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer
from stillroom.errors import StillroomError
from stillroom.generation.facts import generation_of
from stillroom.paths import ImagePath
from stillroom.wire.events import Event
from stillroom.wire.facets import COUNTED_KINDS, FacetCount, Facets
from stillroom.wire.generation import Generation
from stillroom.wire.images import Folder, FoundImage, ImageInfo, ImageMetadata
from stillroom.wire.media import MediaResource
from stillroom.wire.runs import PublishedRun, RunImage, RunInfo
from stillroom.wire.shown import LOCAL
from stillroom.wire.trash import TrashedImage
from stillroom.wire.uploads import UploadGrant

T = TypeVar("T")

_OF_STATUS: Final[Mapping[int, str]] = {
    401: "unauthenticated",
    403: "forbidden",
    409: "path_conflict",
    412: "precondition_failed",
    413: "too_large",
    415: "unsupported_media",
    **dict.fromkeys((502, 503, 504), "backend_unavailable"),
    507: "storage_full",
}
"""Error codes for responses that a proxy created. Stillroom's own responses contain an error code.

404 is not included, because any web server may send it. If the SDK reported it as a missing image,
the caller would generate the image again."""

_WITH_ANY_TEXT: Final = (MediaResource, Event)
"""Types whose texts, such as captions, may contain control characters."""

_NEXT: Final = re.compile(r'<[^>?]*(\?[^>]*)>\s*;\s*rel="?next"?')
_SHA256: Final = re.compile(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):")
_LACKING: Final = re.compile(r'error="insufficient_scope"(?:, scope="([a-z:]+)")?')
"""Pattern for `WWW-Authenticate` (RFC 6750, section 3.1). A 403 for HEAD has no other details."""

_SHOWN_CHARS: Final = 300
"""Maximum number of bytes of an unexpected response that an error message quotes."""


def refused(answer: Answer, subject: str) -> StillroomError:
    """Convert an error response to an exception, whose message begins with `subject`."""
    code, detail = _parse_error(answer)
    code = code or _OF_STATUS.get(answer.status, "")
    lacking = _LACKING.search(answer.headers.get("www-authenticate", ""))
    if lacking and not detail:
        said = f"lacks the scope {lacking[1]}" if lacking[1] else "is limited to another folder"
        detail = f"the token {said}"
    known = error_of(code, detail, subject)
    if isinstance(known, errors.Forbidden):
        known.scope = lacking and lacking[1]
    if known is not None:
        return known
    if answer.status == 404:
        return UnexpectedAnswer(
            f"{subject}: 404 from a server that is not Stillroom: pass the URL of the server's "
            "root, such as http://127.0.0.1:8000"
        )
    return UnexpectedAnswer(
        f"{subject}: the server responds {answer.status} "
        f"{detail or answer.body[:_SHOWN_CHARS].decode('utf-8', 'replace')!r}"
    )


def is_missing(answer: Answer) -> bool:
    """Return True for Stillroom's 404 response for a missing image, and False for any other 404."""
    return answer.status == 404 and _parse_error(answer)[0] == errors.ImageNotFound.code


def _parse_error(answer: Answer) -> tuple[str, str]:
    try:
        said = json.loads(answer.body)
        code, detail = said["code"], said["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.headers.get("stillroom-error", ""), ""
    if isinstance(detail, list):
        detail = "; ".join(map(_described, detail))
    return str(code), str(detail)


def _described(fault: Mapping[str, Any]) -> str:
    """Format a validation error, with the name of the parameter, header or field."""
    said = str(fault.get("msg", ""))
    named = [str(one) for one in fault.get("loc", ()) if not str(one).isdigit()]
    is_of_name = fault.get("type") in (errors.InvalidInput.code, errors.InvalidParameter.code)
    return f"{named[-1]}: {said}" if is_of_name and named[1:] else said


def error_of(code: str, detail: str, subject: str) -> StillroomError | None:
    """Create the exception for an error code. Return None if this SDK does not know the code."""
    kind = _KINDS.get(code)
    if kind is None:
        return None
    error = kind.__new__(kind)  # subclass constructors set a message or need arguments
    said = detail or (kind.__doc__ or "").partition("\n")[0]
    said = "".join(char if char.isprintable() else "?" for char in said)  # terminal escapes
    Exception.__init__(error, f"{subject}: {said}" if subject else said)
    if isinstance(error, errors.InvalidInput):
        error.at = ()
    return error


def error_of_result(result: Mapping[str, Any], path: str) -> StillroomError:
    """Create the exception for an image that failed in a batch request."""
    code, detail = result["code"], result["detail"]
    return error_of(code, detail, path) or UnexpectedAnswer(f"{path}: {detail}")


_KINDS: Final[Mapping[str, type[StillroomError]]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, StillroomError) and kind is not StillroomError
}
"""Exceptions by error code."""


def document(answer: Answer, subject: str) -> Any:  # noqa: ANN401  (JSON)
    """Parse the JSON body of a response. Raise an exception unless its status is 200 or 202."""
    if answer.status not in (200, 202):
        raise refused(answer, subject)
    try:
        return json.loads(answer.body)
    except ValueError:
        raise _foreign(answer, subject) from None


def _convert(answer: Answer, subject: str, parse: Callable[[Any], T]) -> T:
    """Convert the JSON body of a response. If `parse` fails, raise `UnexpectedAnswer`."""
    said = document(answer, subject)
    try:
        return parse(said)
    except (AttributeError, KeyError, TypeError, ValueError, errors.InvalidPath) as error:
        raise _foreign(answer, subject) from error


def parsed(answer: Answer, subject: str, kind: type[T]) -> T:
    """Parse the body of a response with `decode`."""
    return _convert(answer, subject, functools.partial(decode, kind))


def upload_grant(answer: Answer, path: str) -> UploadGrant:
    """Parse the response to a request for an upload grant."""

    def parse(said: Any) -> UploadGrant:  # noqa: ANN401  (JSON)
        grant = decode(UploadGrant, said)
        texts = (grant.grant, *grant.headers.keys(), *grant.headers.values())
        is_web = grant.url.startswith(("https://", "http://"))
        if grant.method != "PUT" or not is_web or not all(map(str.isprintable, texts)):
            raise ValueError("the grant is not for an upload by HTTP")
        return grant

    return _convert(answer, path, parse)


def uploaded(answer: Answer, path: str) -> None:
    """Raise an exception unless the file of a grant was uploaded."""
    if answer.status not in (200, 412):  # 412: an earlier attempt has uploaded it
        raise refused(answer, path)


def listed_path(path: str, prefix: str) -> str:
    """Validate a path from a listing, because callers derive file names from it, and return it."""
    ImagePath.parse(path.removesuffix("/"))  # an AttributeError if the path is no string
    if not path.startswith(prefix):
        raise UnexpectedAnswer(f"the server lists {path!r}, which does not begin with {prefix!r}")
    return path


def info_of_entry(entry: Mapping[str, Any], prefix: str) -> ImageInfo | Folder:
    """Parse an entry of a listing, whose path must begin with `prefix`."""
    path = listed_path(entry["path"], prefix)
    return Folder(path) if path.endswith("/") else decode(ImageInfo, entry)


def found(answer: Answer, prefix: str) -> tuple[list[FoundImage], str | None]:
    """Parse a page of search results. Also return the cursor of the next page, or None."""

    def parse(said: Mapping[str, Any]) -> tuple[list[FoundImage], str | None]:
        return [_metadata_of(FoundImage, item, prefix) for item in said["items"]], said["next"]

    return _convert(answer, "search", parse)


def facets(answer: Answer) -> Facets:
    """Parse the numbers of images with each value. The values may be any texts."""

    def parse(said: Mapping[str, Any]) -> Facets:
        lists = {
            name: [FacetCount(str(one["value"]), int(one["count"])) for one in said[name]]
            for name in (*COUNTED_KINDS, "tag")
            if name in COUNTED_KINDS or said.get("tag") is not None
        }
        return Facets(**lists, counted=int(said["counted"]), complete=bool(said["complete"]))

    return _convert(answer, "facets", parse)


def trash(answer: Answer) -> tuple[list[TrashedImage], str | None]:
    """Return the entries on a page of the trash, and the cursor of the next page or None."""

    def parse(said: Mapping[str, Any]) -> tuple[list[TrashedImage], str | None]:
        return [decode(TrashedImage, item) for item in said["items"]], said["next"]

    return _convert(answer, "trash", parse)


def events(answer: Answer) -> tuple[list[Event], str, bool]:
    """Parse a page of events. Also return the next cursor, and whether this is the last page."""

    def parse(said: Mapping[str, Any]) -> tuple[list[Event], str, bool]:
        found = [decode(Event, event) for event in said["events"]]
        return found, str(said["next"]), bool(said["caught_up"])

    return _convert(answer, "events", parse)


def metadata(answer: Answer, path: str) -> ImageMetadata:
    """Parse the response to a request for the metadata of an image."""
    return _convert(answer, path, lambda said: _metadata_of(ImageMetadata, said, path))


def _metadata_of(kind: type[T], said: Mapping[str, Any], prefix: str) -> T:
    listed_path(said["path"], prefix)
    return decode(kind, said)


def info_of_head(answer: Answer, path: str) -> ImageInfo:
    """Parse the headers of the response to a HEAD request for an image."""
    if answer.status != 200:
        raise refused(answer, path)
    sha256 = announced_sha256(answer)
    try:
        return ImageInfo(
            path=path,
            size=int(answer.headers["content-length"]),
            modified=parsedate_to_datetime(answer.headers["last-modified"]).astimezone(UTC),
            content_type=_check_printable(answer.headers["content-type"]),
            etag=_check_printable(answer.headers["etag"]),
            sha256=sha256.hex() if sha256 else None,
        )
    except (KeyError, ValueError):
        raise _foreign(answer, path) from None


def announced_sha256(answer: Answer) -> bytes | None:
    """Return the SHA-256 in a `Repr-Digest` header (RFC 9530), or None if there is none."""
    found = _SHA256.search(answer.headers.get("repr-digest", ""))
    try:
        return base64.b64decode(found[1], validate=True) if found else None
    except binascii.Error:
        return None


def listed(answer: Answer, prefix: str) -> tuple[list[Any], str | None]:
    """Parse a page of a listing. Also return the query string of the next page, or None."""
    entries = document(answer, prefix)
    if not isinstance(entries, list):
        raise _foreign(answer, prefix)
    more = _NEXT.search(answer.headers.get("link", ""))
    return entries, more[1] if more else None


def listed_run(entry: Mapping[str, Any], prefix: str) -> RunInfo:
    """Parse an entry of a listing of runs, whose folder must begin with `prefix`."""
    run = decode(RunInfo, entry)
    listed_path(f"{run.folder}/", prefix)  # prefix `generations/7/` matches run `generations/7`
    return run


def run_of(answer: Answer, folder: ImagePath) -> PublishedRun:
    """Parse a response that contains a run and its images."""

    def parse(said: Mapping[str, Any]) -> PublishedRun:
        known = decode(RunInfo, said)
        if not isinstance(said["images"], list):
            raise TypeError("images")
        images = [decode(RunImage, image) for image in said["images"]]
        for image in images:
            listed_path(image.path, f"{folder.text}/")
        return PublishedRun(known.folder, known.state, known.published_at, len(images), images)

    return _convert(answer, folder.text, parse)


def field(answer: Answer, name: str, subject: str) -> Any:  # noqa: ANN401  (JSON)
    """Parse a JSON response, and return its member `name`."""
    return _convert(answer, subject, lambda said: said[name])


def decode(kind: type[T], said: Mapping[str, Any]) -> T:
    """Create an instance of a dataclass from a JSON object with the same field names.

    A field that has a default may be missing, because older servers do not send all fields. A
    malformed object raises AttributeError, KeyError, TypeError or ValueError.
    """
    values: dict[str, Any] = {}
    table: type = kind  # mypy does not consider `type[T]` hashable
    for name, hint, is_required in _fields_of(table):
        if is_required or name in said:
            value = said[name] if kind in _WITH_ANY_TEXT else _check_printable(said[name])
            is_null = value is None and NoneType in get_args(hint)
            parse = None if is_null else _PARSERS.get(hint)
            values[name] = value if parse is None else parse(value)
    return kind(**values)


_PARSERS: Final[Mapping[Any, Callable[[Any], object]]] = {
    datetime: datetime.fromisoformat,
    datetime | None: datetime.fromisoformat,
    Generation | None: generation_of,
    tuple[str, ...]: lambda texts: tuple(map(str, texts)),
    tuple[str, ...] | None: lambda texts: tuple(map(str, texts)),
}
"""Functions that convert JSON values to types that JSON does not have."""


@functools.cache
def _fields_of(kind: type) -> Sequence[tuple[str, Any, bool]]:
    hints, sent = get_type_hints(kind), [item for item in fields(kind) if item.metadata != LOCAL]
    return [(item.name, hints[item.name], item.default is MISSING) for item in sent]


def _check_printable(value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("a string in the response contains control characters")
    return value


def _foreign(answer: Answer, subject: str) -> UnexpectedAnswer:
    shown = answer.body[:_SHOWN_CHARS].decode("utf-8", "replace")
    return UnexpectedAnswer(f"{subject}: not a response from Stillroom: {shown!r}")
