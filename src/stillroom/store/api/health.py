"""Operations for monitoring: liveness, readiness and metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter, Response

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.features.library.database import MediaDatabase
from stillroom.store.api.responses import json_answer
from stillroom.store.http.problems import ERROR_FIELD, RETRY_AFTER_S
from stillroom.store.port import ImageStorage
from stillroom.store.telemetry import metrics

_WAIT_S: Final = 6.0
"""Timeout of a health check in seconds. A bucket request fails after five seconds, but a request to
a disk may never return."""


class HealthCheck:
    """Health check of a component that may hang. Concurrent requests share one running check.

    `check` raises a `StillroomError` if the component does not work.
    """

    def __init__(self, check: Callable[[], Awaitable[object]], component: str) -> None:
        self._check = check
        self._component = component
        self._task: asyncio.Task[StillroomError | None] | None = None

    async def find_error(self) -> StillroomError | None:
        """Check the component. Return the error, or None if the component works."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        done, _ = await asyncio.wait([self._task], timeout=_WAIT_S)
        if not done:
            return BackendUnavailable(f"{self._component} does not respond")
        return done.pop().result()

    async def _run(self) -> StillroomError | None:
        try:
            await self._check()
        except StillroomError as error:
            return error
        return None


async def _readiness(storage_check: HealthCheck, database_check: HealthCheck) -> Response:
    """Return the states of storage and database, with a 503 if the storage does not work.

    Without the database, only media library requests fail (503), so the server counts as ready and
    gets other requests: see docs/adr/0019.
    """
    storage, database = await asyncio.gather(
        storage_check.find_error(), database_check.find_error()
    )
    status = "not ready" if storage else "degraded" if database else "ready"
    content = {
        "status": status,
        "parts": {"storage": _part(storage), "database": _part(database)},
    }
    if storage is None:
        return json_answer(content)
    headers = {ERROR_FIELD: storage.code, "retry-after": str(RETRY_AFTER_S)}
    error = {"detail": str(storage), "code": storage.code}
    return json_answer({**content, **error}, 503, headers=headers)


def _part(error: StillroomError | None) -> dict[str, str]:
    if error is None:
        return {"state": "ok"}
    return {"state": error.code, "reason": str(error)}


def health_router(
    storage: ImageStorage, database: MediaDatabase, update_disk_metrics: Callable[[], None]
) -> APIRouter:
    """Return a router for `/healthz`, `/readyz` and `/metrics`, which the OpenAPI document omits.

    `update_disk_metrics` is called before the metrics are returned.
    """
    router = APIRouter(include_in_schema=False)
    checks = HealthCheck(storage.check, "the storage"), HealthCheck(database.check, "the database")

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> Response:
        return await _readiness(*checks)

    @router.get("/metrics")
    async def numbers() -> Response:
        update_disk_metrics()
        return await metrics.metrics()

    return router
