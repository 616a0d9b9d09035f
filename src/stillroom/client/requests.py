"""Functions that build the HTTP requests for operations on images."""

import base64
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypedDict
from urllib.parse import quote, urlencode

from stillroom.client.exchange import Call, Form
from stillroom.client.lifetime import Lifetime, seconds_of
from stillroom.client.sources import ImagePayload, named
from stillroom.client.values import OnProgress, Progress
from stillroom.paths import ImagePath, ImagePrefix

IMAGES: Final = "/storage/images"
_ARCHIVE: Final = "/storage/archive"

_NAMES_A_PAGE: Final = 1000
_ENTRIES_A_PAGE: Final = 250
"""Page size of listings with properties, which cost one request per image if the server uses a
bucket."""

SIGNED_AT_ONCE: Final = 1000
"""Number of paths in one request for signed URLs, the maximum that the server accepts."""

DELETED_AT_ONCE: Final = 100
"""Number of images deleted by one request. The server accepts 1,000, but that could take long."""

Sidecars = Literal["captions"]
"""Kind of files that are added to an archive: `captions` are text files with the prompts."""

Condition = Mapping[str, str]
"""Headers that make a request conditional, such as `If-Match` (RFC 9110, section 13.1)."""


class Picture(TypedDict, total=False):
    """Options for a thumbnail that the server creates: docs/api.md, "Thumbnails"."""

    width: int
    height: int
    fit: Literal["contain", "cover"]
    format: Literal["webp", "jpeg", "png"]
    quality: int


def picture_query(picture: Picture) -> str:
    """Return the query string with thumbnail options, or an empty string if there are none."""
    return f"?{urlencode(picture)}" if picture else ""


def numbered(path: ImagePath, number: int) -> ImagePath:
    """Insert a number into a file name: `cats/fox.png` becomes `cats/fox-7.png`.

    Raises:
        InvalidPath: The result is too long.
    """
    folder, slash, name = path.text.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return ImagePath.parse(f"{folder}{slash}{stem}-{number}{dot}{suffix}")


def condition(if_match: str | None = None, if_none_match: str | None = None) -> Condition:
    """Return the headers of a conditional request. The arguments are quoted etags or `*`."""
    fields = {"if-match": if_match, "if-none-match": if_none_match}
    return {name: value for name, value in fields.items() if value is not None}


def image_target(path: ImagePath) -> str:
    """Return the target (path) of the HTTP requests that operate on an image."""
    return f"{IMAGES}/{path.quoted()}"


def list_target(prefix: str, *, start_after: str, fold: bool, with_properties: bool) -> str:
    """Return the target (path and query) for the first page of a listing. See `ImageStore.iter`."""
    path = "/storage/entries" if with_properties else IMAGES
    page_size = _ENTRIES_A_PAGE if with_properties else _NAMES_A_PAGE
    given = {"prefix": ImagePrefix.parse(prefix).text, "limit": str(page_size)}
    if start_after:
        given["start_after"] = start_after
    if fold:
        given["delimiter"] = "/"
    return f"{path}?" + urlencode(given, quote_via=quote, safe="")


def json_call(method: str, target: str, content: Mapping[str, object]) -> Call:
    """Return a request with a JSON body."""
    fields = {"content-type": "application/json"}
    return Call(method, target, fields, json.dumps(content).encode())


def save_call(
    path: ImagePath,
    upload: ImagePayload,
    condition: Condition,
    progress: OnProgress | None,
    expires_in: Lifetime | None,
) -> Call:
    """Return a request that saves an image."""
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
        **condition,
    }
    if expires_in is not None:
        fields["expires-in"] = str(seconds_of(expires_in))
    report = image_progress(progress, path.text)
    return Call("POST", image_target(path), fields, form, progress=report)


def archive_call(images: str | Iterable[str], sidecars: Sidecars | None) -> tuple[Call, str]:
    """Return the request for an archive of many images, and a subject for error messages."""
    if isinstance(images, str):
        given = {"prefix": ImagePrefix.parse(images).text}
        if sidecars is not None:
            given["sidecars"] = sidecars
        query = urlencode(given, quote_via=quote, safe="")
        return Call("GET", f"{_ARCHIVE}?{query}"), images or "all images"
    paths = [named(path).text for path in images]
    return json_call("POST", _ARCHIVE, {"paths": paths, "sidecars": sidecars}), "the archive"


def image_progress(
    progress: OnProgress | None, subject: str
) -> Callable[[int, int | None], None] | None:
    """Convert a caller's progress callback to one for `Call.progress`; None remains None."""
    if progress is None:
        return None
    return lambda done, total: progress(Progress(subject, done, total))
