"""A compute server with the whole store in it: title, routes, lifespan and middleware of its own.

`HOST_MOUNT` mounts it below a path of another app, as larger deployments do. `HOST_KEYS` gives it
keys of its own instead of tokens, and few features.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, Request, Response
from starlette.middleware.gzip import GZipMiddleware

from stillroom.embed import Stillroom
from stillroom.errors import Unauthenticated
from stillroom.store.auth.grants import Grant

started: list[str] = []


def grant_of_key(field: str | None) -> Grant:
    if field == "Bearer key-of-everything":
        return Grant.everything()
    if field == "Bearer key-of-cats":
        return Grant.confined_to(frozenset({"storage:read"}), "cats")
    raise Unauthenticated


if "HOST_KEYS" in os.environ:
    stillroom = Stillroom(gallery=True, authorize=grant_of_key, features=["pictures", "gallery"])
else:
    stillroom = Stillroom(gallery=True)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    started.append("model loaded")
    yield {"model": "loaded"}


compute = FastAPI(title="Compute server", version="7.0.0", lifespan=lifespan)
compute.add_middleware(GZipMiddleware, minimum_size=10_000_000)
compute.include_router(stillroom.router, prefix="/api/v1")


@compute.middleware("http")
async def named(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["X-Compute"] = "7"
    return response


@compute.get("/readyz")
async def ready() -> list[str]:
    return started


@compute.post("/generations/{number}")
async def generate(number: int) -> dict[str, str]:
    """Make an image, keep it, and say where it is: the app's own endpoint on the same store."""
    path = f"generations/{number}/made.png"
    await stillroom.images.save(path, b"\x89PNG\r\n\x1a\n" + number.to_bytes(4))
    return {"path": path, "listed": "".join([name async for name in stillroom.images.iter(path)])}


@contextlib.asynccontextmanager
async def both(_: FastAPI) -> AsyncIterator[None]:
    async with lifespan(compute), stillroom.lifespan():
        yield


mount = os.environ.get("HOST_MOUNT", "")
app = compute
if mount:
    app = FastAPI(title="Gateway", lifespan=both)
    app.mount(mount, compute)
