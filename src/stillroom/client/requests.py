"""Functions that build the requests on images."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlencode

from stillroom.client.exchange import Call, Form
from stillroom.client.lifetime import Lifetime, seconds_of
from stillroom.client.sources import ImagePayload
from stillroom.client.values import OnProgress, Progress
from stillroom.paths import ImagePath, ImagePrefix

IMAGES: Final = "/storage/images"

NAMES_A_PAGE: Final = 1000
ENTRIES_A_PAGE: Final = 250
"""Page size of listings with properties, which cost one request per image if the server uses a
bucket."""

SIGNED_AT_ONCE: Final = 1000
"""Number of paths in one request for signed URLs, the maximum that the server accepts."""

DELETED_AT_ONCE: Final = 100
"""Number of images deleted by one request. The server accepts 1,000, but that could take long."""

Condition = Mapping[str, str]
"""Headers that make a request conditional, such as `If-Match` (RFC 9110, section 13.1)."""


def condition(if_match: str | None = None, if_none_match: str | None = None) -> Condition:
    """Return the headers of a conditional request. The arguments are quoted etags or `*`."""
    fields = {"if-match": if_match, "if-none-match": if_none_match}
    return {name: value for name, value in fields.items() if value is not None}


def image_target(path: ImagePath) -> str:
    """Return the target of requests on an image."""
    return f"{IMAGES}/{path.quoted()}"


def list_query(prefix: str, *, start_after: str, page_size: int, fold: bool) -> str:
    """Return the query string for the first page of a listing. See `ImageStore.iter`.

    Raises:
        InvalidPath: No path can begin with `prefix`.
    """
    given = {"prefix": ImagePrefix.parse(prefix).text, "limit": str(page_size)}
    if start_after:
        given["start_after"] = start_after
    if fold:
        given["delimiter"] = "/"
    return "?" + urlencode(given, quote_via=quote, safe="")


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


def image_progress(
    progress: OnProgress | None, subject: str
) -> Callable[[int, int | None], None] | None:
    """Convert a caller's progress callback to one for `Call.progress`; None remains None."""
    if progress is None:
        return None
    return lambda done, total: progress(Progress(subject, done, total))
