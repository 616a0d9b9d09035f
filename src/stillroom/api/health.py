"""Is it alive, and can it serve?"""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from stillroom.api import metrics
from stillroom.api.operation import ProblemResponse
from stillroom.errors import StillroomError
from stillroom.http.problems import problem
from stillroom.storage.interface import ImageStorage


def health_router(storage: ImageStorage) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`: for machines, outside of the documented API."""
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> Response:
        try:
            await storage.check()
        except StillroomError as error:
            answer = problem(error)
            return ProblemResponse(type(answer)(503, answer.headers, answer.body))
        return JSONResponse({"status": "ready"})

    router.add_api_route("/metrics", metrics.metrics)
    return router
