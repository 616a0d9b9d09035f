"""Functions that build the HTTP requests for operations on images."""

import base64
import difflib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import PurePosixPath
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from stillroom.client import values
from stillroom.client.exchange import Call, Form
from stillroom.client.sources import ImagePayload, named
from stillroom.durations import parse_duration
from stillroom.errors import InvalidParameter
from stillroom.paths import ImagePath, ImagePrefix
from stillroom.wire.uploads import UploadGrant

T = TypeVar("T")

IMAGES: Final = "/storage/images"
RUNS: Final = "/storage/runs"
GRANTS: Final = "/storage/upload-grants"
TRASH: Final = "/storage/trash"
_ARCHIVE: Final = "/storage/archive"

_ENTRIES_A_PAGE: Final = 250
"""Page size of listings with properties. A server with a bucket sends one request per image."""

_FOUND_A_PAGE: Final = 100
_RUNS_BY_TIME: Final = 10_000
"""Size of the only page that the server returns if runs are sorted by time."""

SIGNED_AT_ONCE: Final = 1000
"""Number of paths in one request for signed URLs, the maximum that the server accepts."""

DELETED_AT_ONCE: Final = 100
"""Number of images deleted by one request. The server accepts 1,000, but that could take long."""


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the elements of an iterable in lists of up to `size` elements."""
    left = iter(things)
    while batch := list(islice(left, size)):
        yield batch


def numbered(path: ImagePath, number: int) -> ImagePath:
    """Insert a number into the file name of a path: `fox-7.png` for `fox.png` and 7."""
    name = PurePosixPath(path.text)
    return ImagePath.parse(str(name.with_stem(f"{name.stem}-{number}")))


def condition(if_match: str | None = None, if_none_match: str | None = None) -> dict[str, str]:
    """Return the headers of a conditional request. The arguments are quoted etags or `*`."""
    fields = {"if-match": if_match, "if-none-match": if_none_match}
    return {name: value for name, value in fields.items() if value is not None}


def seconds_of(lifetime: values.Lifetime, name: str = "expires_in") -> int:
    """Convert a lifetime to whole seconds. Raise `InvalidParameter` if it is not a duration."""
    if isinstance(lifetime, timedelta):
        return int(lifetime.total_seconds())
    duration = parse_duration(str(lifetime), may_lack_unit=True)
    if duration is None:
        raise InvalidParameter(
            f"{name} is {lifetime!r}: pass a timedelta, a number of seconds, or a string such as "
            "'90s', '15m', '12h' or '7d'",
            at=("argument", name),
        )
    return int(duration.total_seconds())


def check_names(options: Mapping[str, object], known: type) -> None:
    """Raise `TypeError` if a keyword argument is not a field of the `TypedDict` `known`."""
    names = list(known.__annotations__)
    for name in options.keys() - set(names):
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"use {', '.join(names)}"
        raise TypeError(f"unexpected keyword argument {name!r}: {advice}")


def image_target(path: ImagePath) -> str:
    """Return the target (path) of requests for an image."""
    return f"{IMAGES}/{path.quoted()}"


def target_of(path: str, query: Mapping[str, object]) -> str:
    """Return a target with query parameters. None omits a parameter, and a list repeats it."""
    sent = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(sent, doseq=True, quote_via=quote, safe='')}"


def list_target(prefix: str, start_after: str, *, fold: bool, with_properties: bool = False) -> str:
    """Return the target for the first page of a listing. See `ImageStore.iter`."""
    path, page_size = IMAGES, 1000
    if with_properties:
        path, page_size = "/storage/entries", _ENTRIES_A_PAGE
    query = {"prefix": ImagePrefix.parse(prefix).text, "limit": page_size}
    options = {"start_after": start_after or None, "delimiter": "/" if fold else None}
    return target_of(path, query | options)


def runs_target(prefix: str, state: values.RunState | None, sort: values.RunSort) -> str:
    """Return the target for the first page of a listing of runs. See `ImageStore.runs`."""
    page_size = _ENTRIES_A_PAGE if sort == "folder" else _RUNS_BY_TIME
    query = {"prefix": ImagePrefix.parse(prefix).text, "sort": sort, "state": state}
    return target_of(RUNS, {**query, "limit": page_size})


def search_query(q: str, filters: values.SearchFilters, limit: int | None) -> dict[str, object]:
    """Return the query parameters for the first page of a search. Later pages need `cursor`."""
    check_names(filters, values.SearchFilters)
    ImagePrefix.parse(filters.get("prefix", ""))
    query: dict[str, object] = {"q": q, "limit": min(limit or _FOUND_A_PAGE, _FOUND_A_PAGE)}
    for name, value in filters.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise InvalidParameter(
                    f"{name}: the datetime has no time zone: set its tzinfo", at=(name,)
                )
            query[name] = value.astimezone(UTC).isoformat()
        elif isinstance(value, Iterable) and not isinstance(value, str):
            query[name] = [str(item) for item in value]
        else:
            query[name] = str(value)
    return {name: text for name, text in query.items() if text}


def json_call(method: str, target: str, content: Mapping[str, object]) -> Call:
    """Return a request with a JSON body."""
    return Call(method, target, {"content-type": "application/json"}, json.dumps(content).encode())


def save_call(
    path: ImagePath,
    upload: ImagePayload,
    fields: Mapping[str, str],
    progress: values.OnProgress | None,
) -> Call:
    """Return a request that saves an image, with the headers in `fields`."""
    boundary = secrets.token_hex(16)
    form = Form(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode(),
        upload,
        f"\r\n--{boundary}--\r\n".encode(),
    )
    fields = {
        "content-type": f"multipart/form-data; boundary={boundary}",
        "content-length": str(len(form.head) + upload.size + len(form.tail)),
        "repr-digest": f"sha-256=:{base64.b64encode(upload.sha256).decode()}:",
        **fields,
    }
    return Call("POST", image_target(path), fields, form, subject=path.text, progress=progress)


def grant_call(path: str, size: int, terms: values.GrantTerms) -> Call:
    """Return a request for an upload grant."""
    content = {"path": named(path).text, "size": size, **terms}
    content["expires_in"] = seconds_of(terms.get("expires_in", "1h"))
    if (lifetime := terms.get("expires_after")) is not None:
        content["expires_after"] = str(seconds_of(lifetime))
    return json_call("POST", GRANTS, content)


def direct_call(
    path: str,
    grant: UploadGrant,
    upload: ImagePayload,
    progress: values.OnProgress | None,
    root: str,
) -> Call:
    """Return the request that uploads the file of a grant. `root` is the base URL of the API."""
    fields = {name.lower(): value for name, value in grant.headers.items()}
    fields["content-length"] = str(upload.size)
    target = grant.url.removeprefix(root)  # a path is requested with the token
    body = Form(b"", upload, b"")
    return Call(grant.method, target, fields, body, subject=path, progress=progress)


def archive_content(images: str | Iterable[str]) -> dict[str, object]:
    """Return the JSON object that names the images of an archive: a prefix, or paths.

    `cats` is the folder `cats/`. `cats*` is the prefix `cats`, and `*` or an empty text all images.
    """
    if isinstance(images, str):
        prefix = images if images.endswith(("/", "*")) or not images else f"{images}/"
        return {"prefix": ImagePrefix.parse(prefix.removesuffix("*")).text}
    return {"paths": [named(path).text for path in images]}


def archive_call(images: str | Iterable[str], sidecars: values.Sidecars | None) -> Call:
    """Return the request for an archive of many images."""
    content = {**archive_content(images), "sidecars": sidecars}
    if isinstance(images, str):
        return Call("GET", target_of(_ARCHIVE, content), subject=images or "all images")
    return replace(json_call("POST", _ARCHIVE, content), subject="the archive")
