"""Operations for monitoring: liveness, readiness and metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.store.api.responses import json_answer
from stillroom.store.http.problems import ERROR_FIELD, RETRY_AFTER_S
from stillroom.store.telemetry import metrics

_WAIT_S: Final = 6.0  # the check of a bucket takes up to five seconds; that of a disk may hang

Check = Callable[[], Awaitable[object]]  # raises a `StillroomError` if a component does not work


@dataclass(slots=True)
class _HealthCheck:
    """Check of a component that may hang. Concurrent requests share one running check."""

    check: Check
    component: str
    task: asyncio.Task[StillroomError | None] | None = None

    async def find_error(self) -> StillroomError | None:
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run())
        done, _ = await asyncio.wait([self.task], timeout=_WAIT_S)
        if not done:
            return BackendUnavailable(f"{self.component} does not respond")
        return done.pop().result()

    async def _run(self) -> StillroomError | None:
        try:
            await self.check()
        except StillroomError as error:
            return error
        return None


async def _readiness(checks: Mapping[str, _HealthCheck]) -> Response:
    # Without its database, a server is ready, since most requests do not need it (docs/adr/0019).
    results = await asyncio.gather(*(check.find_error() for check in checks.values()))
    errors = dict(zip(checks, results, strict=True))
    storage = errors["storage"]
    status = "not ready" if storage else "degraded" if any(results) else "ready"
    parts = {
        name: {"state": error.code, "reason": str(error)} if error else {"state": "ok"}
        for name, error in errors.items()
    }
    content = {"status": status, "parts": parts}
    if storage is None:
        return json_answer(content)
    headers = {ERROR_FIELD: storage.code, "retry-after": str(RETRY_AFTER_S)}
    error = {"detail": str(storage), "code": storage.code}
    return json_answer({**content, **error}, 503, headers=headers)


def health_router(
    checks: Mapping[str, Check], update_disk_metrics: Callable[[], None]
) -> APIRouter:
    """Return a router for `/healthz`, `/readyz` (which runs `checks`) and `/metrics`."""
    router = APIRouter(include_in_schema=False)
    health_checks = {name: _HealthCheck(check, f"the {name}") for name, check in checks.items()}

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> Response:
        return await _readiness(health_checks)

    @router.get("/metrics")
    async def numbers() -> Response:
        update_disk_metrics()
        return await metrics.metrics()

    return router
