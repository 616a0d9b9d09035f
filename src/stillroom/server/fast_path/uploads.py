"""One upload on the fast path: from a checked head to an answer, by the API's own operation."""

import logging
import time
from typing import Final

from stillroom.api.images import ImageOperations, json_bytes
from stillroom.api.operation import log_gone, refused, shown_target
from stillroom.auth.grants import Grant
from stillroom.auth.verified import VerifiedTokens
from stillroom.errors import StillroomError
from stillroom.http.fields import Fields, combined
from stillroom.http.problems import JSON_HEADERS, Problem, plain_problem
from stillroom.paths import ImagePath
from stillroom.server.fast_path.receiving import Body
from stillroom.server.fast_path.response_cache import LONG_ROAD_FIELDS, PREFIX, stays_open
from stillroom.telemetry import request_id

_LONG_ROAD_FIELDS: Final = LONG_ROAD_FIELDS - {"content-length", "expect"}

log = logging.getLogger("stillroom.api")


class Upload:
    """An upload whose token and path have been checked.

    Attributes:
        is_past_parser: The rest of the body does not go through the HTTP parser.
        body: Where the body's pieces are put.
        target: As it came.
        began: By `time.perf_counter`.
        request_id: The client's, or one that was made.
        is_named: It is the client's, who wants to see it again.
    """

    def __init__(
        self, grant: Grant, path: ImagePath, fields: Fields, target: bytes, named: str | None
    ) -> None:
        self.began = time.perf_counter()
        self.is_past_parser = False
        self.body = Body(int(fields["content-length"]))
        self.is_named = named is not None
        self.request_id = named or request_id.made()
        self._grant = grant
        self._path = path
        self._fields = fields
        self.target = target

    @property
    def received(self) -> int:
        """Bytes of the body that came in."""
        return int(self._fields["content-length"]) - self.body.missing

    async def run(self, operations: ImageOperations) -> Problem:
        """Save it. Whatever goes wrong is an answer, too."""
        request_id.current.set(self.request_id)
        try:
            saved = await operations.store(self._grant, self._path, self._fields, self.body)
        except StillroomError as error:
            return refused("save_image", self.target, error)
        except ConnectionError:
            log_gone("save_image", self.target)
            return plain_problem(400, "the client went away", "disconnected")
        except Exception:
            log.exception("save_image %s", shown_target(self.target))
            broken = "something is broken here; it was logged"
            return plain_problem(500, broken, "bug", self.request_id)
        content = json_bytes(saved)
        length = str(len(content))
        return Problem(200, [*JSON_HEADERS, ("content-length", length)], content)


def upload_of(
    tokens: VerifiedTokens, target: bytes, headers: list[tuple[bytes, bytes]]
) -> Upload | None:
    """The upload that a checked head of a POST begins; None: it takes the ASGI path."""
    if not target.startswith(PREFIX) or b"?" in target:
        return None
    fields = combined(headers)
    if "content-length" not in fields or not _LONG_ROAD_FIELDS.isdisjoint(fields):
        return None
    if not stays_open(fields) or fields.get("expect", "100-continue").lower() != "100-continue":
        return None
    known = tokens.known(fields.get("authorization"))
    if known is None:
        return None
    try:
        path = ImagePath.from_target(target[len(PREFIX) :])
    except StillroomError:
        return None
    return Upload(known.grant, path, fields, target, request_id.sent(headers))
