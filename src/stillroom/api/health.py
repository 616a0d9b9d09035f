"""Is it alive, can it serve, and what do its numbers say?"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response

from stillroom.api.responses import json_answer
from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.http.problems import ERROR_FIELD, RETRY_AFTER_S
from stillroom.media.database import MediaDatabase
from stillroom.storage.port import ImageStorage
from stillroom.telemetry import metrics

_WAIT_S: Final = 6.0
"""A probe is answered by then; a bucket gives up after five seconds, a disk may never."""


class HealthCheck:
    """One look at a time at something that may hang, however many probes ask for it."""

    def __init__(self, look: Callable[[], Awaitable[object]], what: str) -> None:
        """Call `look` when asked, at `what`."""
        self._look = look
        self._what = what
        self._under_way: asyncio.Task[StillroomError | None] | None = None

    async def trouble(self) -> StillroomError | None:
        """What is wrong, if anything."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._outcome())
        task = self._under_way
        await asyncio.wait([task], timeout=_WAIT_S)
        if not task.done():
            return BackendUnavailable(f"{self._what} does not answer")
        return task.result()

    async def _outcome(self) -> StillroomError | None:
        try:
            await self._look()
        except StillroomError as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class Readiness:
    """What the answers of this process depend on.

    Without its storage it cannot serve. Without the database the media library is 503 and all else
    works, so a proxy should go on sending requests: see docs/adr/0019.
    """

    storage: HealthCheck
    database: HealthCheck

    async def answer(self) -> Response:
        """200 if images can be saved and read, else 503; each part with its state and reason."""
        storage, database = await asyncio.gather(self.storage.trouble(), self.database.trouble())
        status = "not ready" if storage else "degraded" if database else "ready"
        content: dict[str, object] = {
            "status": status,
            "parts": {"storage": _part(storage), "database": _part(database)},
        }
        if storage is None:
            return json_answer(content)
        content |= {"detail": str(storage), "code": storage.code}
        answer = json_answer(content)
        answer.status_code = 503
        answer.headers[ERROR_FIELD] = storage.code
        answer.headers["retry-after"] = str(RETRY_AFTER_S)
        return answer


def _part(trouble: StillroomError | None) -> dict[str, str]:
    if trouble is None:
        return {"state": "ok"}
    return {"state": trouble.code, "reason": str(trouble)}


def health_router(
    storage: ImageStorage, database: MediaDatabase, look_at_disk: Callable[[], None]
) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`: for machines, outside of the documented API.

    Args:
        storage: What cannot be done without.
        database: What only the media library needs.
        look_at_disk: Brings the numbers of the disk up to date, before they are read.
    """
    router = APIRouter(include_in_schema=False)
    readiness = Readiness(
        HealthCheck(storage.check, "the storage"), HealthCheck(database.check, "the database")
    )

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> Response:
        return await readiness.answer()

    @router.get("/metrics")
    async def numbers() -> Response:
        look_at_disk()
        return await metrics.metrics()

    return router
