"""Uploads (POST of an image) on the fast path: from a checked head to a response."""

import logging
import time
from http import HTTPStatus
from typing import Final

from stillroom.api.images import ImageOperations
from stillroom.api.responses import disconnected, json_bytes, refused, shown_target
from stillroom.auth.grants import Grant
from stillroom.auth.verified import VerifiedTokens
from stillroom.errors import StillroomError
from stillroom.http.fields import Fields, combined
from stillroom.http.problems import JSON_HEADERS, Problem, internal_error
from stillroom.paths import ImagePath
from stillroom.server.fast_path.answer_cache import with_date
from stillroom.server.fast_path.receiving import Body
from stillroom.server.fast_path.response_cache import (
    ASGI_ONLY_FIELDS,
    IMAGES_PREFIX,
    Headers,
    keeps_alive,
)
from stillroom.telemetry import request_id

_ASGI_ONLY_FIELDS: Final = ASGI_ONLY_FIELDS - {"content-length", "expect"}

log = logging.getLogger("stillroom.api")


class Upload:
    """An upload whose token and path have been checked.

    Attributes:
        bypasses_parser: The rest of the body does not go through the HTTP parser.
        body: Where the body's pieces are put.
        target: As it came.
        began: By `time.perf_counter`.
        request_id: The client's, or a generated one.
        has_client_id: It is the client's, so the response repeats it.
    """

    def __init__(
        self, grant: Grant, path: ImagePath, fields: Fields, target: bytes, client_id: str | None
    ) -> None:
        self.began = time.perf_counter()
        self.bypasses_parser = False
        self.body = Body(int(fields["content-length"]))
        self.has_client_id = client_id is not None
        self.request_id = client_id or request_id.generate()
        self._grant = grant
        self._path = path
        self._fields = fields
        self.target = target

    @property
    def received(self) -> int:
        """Bytes of the body that came in."""
        return int(self._fields["content-length"]) - self.body.remaining

    async def run(self, operations: ImageOperations) -> Problem:
        """Save it; errors are responses, too."""
        request_id.current.set(self.request_id)
        try:
            saved = await operations.store(self._grant, self._path, self._fields, self.body)
        except StillroomError as error:
            return refused("save_image", self.target, error)
        except ConnectionError:
            return disconnected("save_image", self.target)
        except Exception:
            log.exception("save_image %s", shown_target(self.target))
            return internal_error(self.request_id)
        content = json_bytes(saved)
        length = str(len(content))
        return Problem(200, [*JSON_HEADERS, ("content-length", length)], content)

    def response(self, answer: Problem, extra_headers: Headers, *, keep_alive: bool) -> bytes:
        """The bytes of a whole response, from the answer of `run`."""
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*answer.headers, *extra_headers)]
        if self.has_client_id or answer.status >= 400:
            lines.append(f"{request_id.FIELD}: {self.request_id}")
        if not keep_alive:
            lines.append("connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\ndate: "
        return with_date(head, int(time.time())) + answer.body


def upload_of(
    tokens: VerifiedTokens, target: bytes, headers: list[tuple[bytes, bytes]]
) -> Upload | None:
    """The upload that a checked head of a POST begins; None: it takes the ASGI path."""
    if not target.startswith(IMAGES_PREFIX) or b"?" in target:
        return None
    fields = combined(headers)
    if "content-length" not in fields or not _ASGI_ONLY_FIELDS.isdisjoint(fields):
        return None
    if not keeps_alive(fields) or fields.get("expect", "100-continue").lower() != "100-continue":
        return None
    known = tokens.known(fields.get("authorization"))
    if known is None:
        return None
    try:
        path = ImagePath.from_target(target[len(IMAGES_PREFIX) :])
    except StillroomError:
        return None
    return Upload(known.grant, path, fields, target, request_id.from_client(headers))
