"""Functions that convert a response to a value, or to an exception if it is an error."""

import base64
import binascii
import functools
import json
import operator
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
from stillroom.wire.facets import FacetCount
from stillroom.wire.generation import Generation
from stillroom.wire.images import Folder, ImageInfo, ImageMetadata
from stillroom.wire.media import MediaResource
from stillroom.wire.runs import PublishedRun, RunImage, RunInfo
from stillroom.wire.shown import LOCAL
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

_WITH_ANY_TEXT: Final = (MediaResource, Event, FacetCount)
"""Types whose texts, such as captions, may contain control characters."""

_NEXT: Final = re.compile(r'<[^>?]*(\?[^>]*)>\s*;\s*rel="?next"?')
_SHA256: Final = re.compile(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):")
_LACKING: Final = re.compile(r'error="insufficient_scope"(?:, scope="([a-z:]+)")?')
"""Pattern for `WWW-Authenticate` (RFC 6750, 3.1), with the reason for a 403 response to HEAD."""

_SHOWN_CHARS: Final = 300
"""Maximum number of bytes of an unexpected response that an error message quotes."""


def refused(answer: Answer, subject: str) -> StillroomError:
    """Convert an error response to an exception. Its message begins with `subject`."""
    code, detail = _parse_error(answer)
    code = code or _OF_STATUS.get(answer.status, "")
    lacking = _LACKING.search(answer.headers.get("www-authenticate", ""))
    if lacking and not detail:
        reason = f"lacks the scope {lacking[1]}" if lacking[1] else "is limited to another folder"
        detail = f"the token {reason}"
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
        body = json.loads(answer.body)
        code, detail = body["code"], body["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.headers.get("stillroom-error", ""), ""
    if isinstance(detail, list):
        detail = "; ".join(map(_described, detail))
    return str(code), str(detail)


def _described(fault: Mapping[str, Any]) -> str:
    """Format a validation error, with the name of the parameter, header or field."""
    message = str(fault.get("msg", ""))
    names = [str(name) for name in fault.get("loc", ()) if not str(name).isdigit()]
    codes = errors.InvalidInput.code, errors.InvalidParameter.code
    has_name = names[:1] == ["query"] or fault.get("type") in codes
    return f"{names[-1]}: {message}" if has_name and names[1:] else message


def error_of(code: str, detail: str, subject: str) -> StillroomError | None:
    """Create the exception for an error code. Return None if this SDK does not know the code."""
    kind = _KINDS.get(code)
    if kind is None:
        return None
    error = kind.__new__(kind)  # subclass constructors set a message or need arguments
    message = detail or kind.message or (kind.__doc__ or "").partition("\n")[0]
    message = "".join(char if char.isprintable() else "?" for char in message)  # terminal escapes
    Exception.__init__(error, f"{subject}: {message}" if subject else message)
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
    """Parse the JSON body of a response. Raise an exception if the status is not 200 or 202."""
    if answer.status not in (200, 202):
        raise refused(answer, subject)
    try:
        return json.loads(answer.body)
    except ValueError:
        raise _foreign(answer, subject) from None


def _convert(answer: Answer, subject: str, parse: Callable[[Any], T]) -> T:
    body = document(answer, subject)
    try:
        return parse(body)
    except (AttributeError, KeyError, TypeError, ValueError, errors.InvalidPath) as error:
        raise _foreign(answer, subject) from error


def parsed(answer: Answer, subject: str, kind: type[T]) -> T:
    """Parse the JSON body of a response, and create an instance of the dataclass `kind`."""
    return _convert(answer, subject, functools.partial(decode, kind))


def upload_grant(answer: Answer, path: str) -> UploadGrant:
    """Parse the response to a request for an upload grant."""

    def parse(body: Any) -> UploadGrant:  # noqa: ANN401  (JSON)
        grant = decode(UploadGrant, body)
        texts = (grant.grant, *grant.headers.keys(), *grant.headers.values())
        is_web = grant.url.startswith(("https://", "http://"))
        if grant.method != "PUT" or not is_web or not all(map(str.isprintable, texts)):
            raise ValueError("the grant is not for an upload by HTTP")
        return grant

    return _convert(answer, path, parse)


def uploaded(answer: Answer, path: str) -> None:
    """Check the response to an upload with a grant. Raise an exception if the upload failed."""
    if answer.status not in (200, 412):  # 412: an earlier attempt has uploaded it
        raise refused(answer, path)


def listed_path(path: str, prefix: str) -> str:
    """Validate and return a path from a listing. Callers derive file names from it."""
    ImagePath.parse(path.removesuffix("/"))  # an AttributeError if the path is no string
    if not path.startswith(prefix):
        raise UnexpectedAnswer(f"the server lists {path!r}, which does not begin with {prefix!r}")
    return path


def info_of_entry(entry: Mapping[str, Any], prefix: str) -> ImageInfo | Folder:
    """Parse an entry of a listing. The path in it must begin with `prefix`."""
    path = listed_path(entry["path"], prefix)
    return Folder(path) if path.endswith("/") else decode(ImageInfo, entry)


def page(answer: Answer, subject: str, parse: Callable[[Any], T]) -> tuple[list[T], str | None]:
    """Parse the items on a page. Also return the cursor of the next page, or None."""
    return _convert(
        answer, subject, lambda body: ([parse(item) for item in body["items"]], body["next"])
    )


def events(answer: Answer) -> tuple[list[Event], str, bool]:
    """Parse a page of events. Also return the next cursor, and whether this is the last page."""

    def parse(body: Mapping[str, Any]) -> tuple[list[Event], str, bool]:
        events = [decode(Event, event) for event in body["events"]]
        return events, str(body["next"]), bool(body["caught_up"])

    return _convert(answer, "events", parse)


def metadata(answer: Answer, path: str) -> ImageMetadata:
    """Parse the response to a request for the metadata of an image."""
    return _convert(answer, path, functools.partial(decode_listed, ImageMetadata, prefix=path))


def decode_listed(kind: type[T], item: Mapping[str, Any], *, prefix: str) -> T:
    """Create a dataclass as `decode` does, from an object whose path must begin with `prefix`."""
    listed_path(item["path"], prefix)
    return decode(kind, item)


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
    match = _SHA256.search(answer.headers.get("repr-digest", ""))
    try:
        return base64.b64decode(match[1], validate=True) if match else None
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
    """Parse an entry of a listing of runs. The run's folder must begin with `prefix`."""
    run = decode(RunInfo, entry)
    listed_path(f"{run.folder}/", prefix)  # prefix `generations/7/` matches run `generations/7`
    return run


def run_of(answer: Answer, folder: ImagePath) -> PublishedRun:
    """Parse a response that contains a run and its images."""

    def parse(body: Mapping[str, Any]) -> PublishedRun:
        if not isinstance(body["images"], list):
            raise TypeError("images")
        decode_image = functools.partial(decode_listed, RunImage, prefix=f"{folder.text}/")
        images = list(map(decode_image, body["images"]))
        return decode(PublishedRun, {**body, "count": len(images), "images": images})

    return _convert(answer, folder.text, parse)


def field(answer: Answer, name: str, subject: str) -> Any:  # noqa: ANN401  (JSON)
    """Parse a JSON response, and return its member `name`."""
    return _convert(answer, subject, lambda body: body[name])


def decode(kind: type[T], content: Mapping[str, Any]) -> T:
    """Create an instance of a dataclass from a JSON object with the same field names.

    A field that has a default may be missing, because older servers do not send all fields. A
    malformed object raises AttributeError, KeyError, TypeError or ValueError.
    """
    values: dict[str, Any] = {}
    table: type = kind  # mypy does not consider `type[T]` hashable
    for name, hint, is_required in _fields_of(table):
        if is_required or name in content:
            value = content[name] if kind in _WITH_ANY_TEXT else _check_printable(content[name])
            is_null = value is None and NoneType in get_args(hint)
            parse = None if is_null else _PARSERS.get(hint)
            values[name] = value if parse is None else parse(value)
    return kind(**values)


def _counts(values: Any) -> object:  # noqa: ANN401  (JSON)
    return [decode(FacetCount, value) for value in values]


_PARSERS: Final[Mapping[Any, Callable[[Any], object]]] = {
    int: operator.index,  # other types raise TypeError
    Sequence[FacetCount]: _counts,
    Sequence[FacetCount] | None: _counts,
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
