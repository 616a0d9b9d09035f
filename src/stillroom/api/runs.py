"""Runs over HTTP: publish a folder of images as one thing, list runs, and look at one."""

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from stillroom.api.call import Call
from stillroom.api.document import ETAG_EXAMPLE, FOLDER_EXAMPLE, SHA256_EXAMPLE
from stillroom.api.forms import JsonForm
from stillroom.api.operation import FOLDER_PATH
from stillroom.api.responses import json_answer, json_bytes
from stillroom.api.routes import Operation, OperationRouter
from stillroom.api.sendfile import answered
from stillroom.auth.grants import Authorize
from stillroom.errors import BackendUnavailable
from stillroom.http.problems import JSON_HEADERS
from stillroom.http.query import RUNS_QUERY, RunsParameters, parse_runs_query
from stillroom.http.serving import PRIVATE_CACHE
from stillroom.media.retention.evaluator import RetentionEvaluator, to_nanoseconds
from stillroom.media.runs.deletion import RunDeletions
from stillroom.media.runs.listing import Run, RunListing
from stillroom.media.runs.service import Runs
from stillroom.paths import ImagePath, ImagePrefix

_PUBLISH: Final = "/publish"

_WAITED_FOR_ENDS_S: Final = 2.0

_TIME_EXAMPLE: Final = "2026-11-24T15:00:00+00:00"


class RunToPublish(JsonForm):
    """What a run must be to be published."""

    MAX_BYTES: ClassVar = 1024
    EXAMPLE: ClassVar = '{"expected": 4}'

    expected: int | None = Field(
        default=None,
        ge=0,
        description="How many images it must have; null: however many there are.",
        examples=[4],
    )


class ListedRun(BaseModel):
    """A run of a listing."""

    folder: str = Field(examples=[FOLDER_EXAMPLE])
    state: Literal["published", "open"]
    published_at: datetime | None = Field(
        description="null while it is open", examples=[_TIME_EXAMPLE]
    )
    count: int | None = Field(
        description="images in its manifest; null while it is open", examples=[4]
    )
    expires_at: datetime | None = Field(
        description="when a rule of retention ends it; null where none does, and where that is not "
        "known: it depends on newer runs, or the database is away",
        examples=["2026-12-24T15:00:00+00:00"],
    )


class RunImage(BaseModel):
    """An image of a run."""

    path: str = Field(examples=[f"{FOLDER_EXAMPLE}/cat.png"])
    size: int = Field(description="bytes", examples=[1_258_291])
    content_type: str = Field(examples=["image/png"])
    sha256: str = Field(description="hexadecimal", examples=[SHA256_EXAMPLE])
    etag: str = Field(
        description="with its quotes, as it was when the run was published",
        examples=[ETAG_EXAMPLE],
    )


class RunView(BaseModel):
    """A run with its images: its manifest, or what is there while it is open."""

    folder: str = Field(examples=[FOLDER_EXAMPLE])
    state: Literal["published", "open"]
    published_at: datetime | None = Field(
        description="null while it is open", examples=[_TIME_EXAMPLE]
    )
    count: int = Field(description="images", examples=[4])
    images: list[RunImage]


class DeletedRun(BaseModel):
    """What became of a run's images."""

    folder: str = Field(examples=[FOLDER_EXAMPLE])
    marked: int = Field(
        description="images that go when the grace period is over, unless they are ingested or "
        "saved again",
        examples=[4],
    )
    kept: int = Field(description="images that stay: the library has recorded them in place")
    newer: int = Field(description="images that stay: they were saved after this was asked for")


@dataclass(frozen=True, slots=True)
class RunOperations:
    """The operations on runs.

    Attributes:
        runs: Publishes them.
        deletions: Deletes them.
        listing: Finds them.
        retention: Evaluator of the retention rules.
        authorize: Who is asking.
    """

    runs: Runs
    deletions: RunDeletions
    listing: RunListing
    retention: RetentionEvaluator
    authorize: Authorize

    async def list_runs(self, request: Request) -> Response:
        """List runs: folders that were published, and folders that hold images."""
        call = await Call.of(request, self.authorize)
        asked = parse_runs_query(call.query)
        visible = call.grant.narrow("storage:read", asked.prefix)
        if asked.sort != "folder":
            return await self._shown(await self._by_time(asked, visible))
        found: list[Run] = []
        async for run in self._wanted(asked, visible):
            if len(found) == asked.limit:
                response = await self._shown(found)
                response.headers["link"] = asked.link_to_next(found[-1].folder)
                return response
            found.append(run)
        return await self._shown(found)

    async def _shown(self, found: Sequence[Run]) -> Response:
        """A page of the listing; that the database is away does not hold it up."""
        expirations = dict[str, datetime]()
        with contextlib.suppress(BackendUnavailable, TimeoutError):
            async with asyncio.timeout(_WAITED_FOR_ENDS_S):
                for run in found:
                    if run.published_at is not None:
                        published_ns = to_nanoseconds(run.published_at)
                        expiration = await self.retention.expected_run_expiration(
                            run.folder, published_ns
                        )
                        if expiration is not None:
                            expirations[run.folder] = expiration.at
        return json_answer([_shown(run, expirations.get(run.folder)) for run in found])

    async def _wanted(self, asked: RunsParameters, visible: ImagePrefix) -> AsyncIterator[Run]:
        async for run in self.listing.runs(visible, asked.start_after):
            if asked.state in (None, run.state):
                yield run

    async def _by_time(self, asked: RunsParameters, visible: ImagePrefix) -> Sequence[Run]:
        """Published runs by their time, then open ones; never more than one page in memory."""
        sign = -1 if asked.sort.startswith("-") else 1
        first: list[tuple[float, int, Run]] = []
        still_open: list[Run] = []
        number = 0
        async for run in self._wanted(asked, visible):
            number -= 1
            if run.published_at is None:
                still_open += [run] if len(still_open) < asked.limit else []
                continue
            item = (-sign * run.published_at.timestamp(), number, run)
            if len(first) < asked.limit:
                heapq.heappush(first, item)
            else:
                heapq.heappushpop(first, item)
        published = [run for *_, run in sorted(first, key=lambda item: item[:2], reverse=True)]
        return [*published, *still_open][: asked.limit]

    async def publish_run(self, request: Request) -> Response:
        """Publish a run: write its manifest, once, with all images that are in the folder."""
        call = await Call.of(request, self.authorize)
        folder = call.run_folder("storage:read", "storage:write", ends=_PUBLISH)
        asked = await call.json(RunToPublish) if call.has_body else RunToPublish()
        published = await self.runs.publish(folder, asked.expected)
        return await answered({}, published, PRIVATE_CACHE, None)

    async def get_run(self, request: Request) -> Response:
        """Get the manifest of a published run, or the images of an open one."""
        call = await Call.of(request, self.authorize)
        folder = call.run_folder("storage:read")
        published = await self.runs.open_manifest(folder)
        if published is not None:
            return await answered(call.fields, published, PRIVATE_CACHE, None)
        await self.runs.require_images(folder)
        pages = self.runs.describe_images(folder)
        # What fails at once is answered as it should be.
        first: list[dict[str, Any]] = await anext(pages, [])
        return StreamingResponse(_open_run(folder, first, pages), headers=dict(JSON_HEADERS))

    async def delete_run(self, request: Request) -> Response:
        """Delete a run: its manifest now, its images when the grace period is over."""
        call = await Call.of(request, self.authorize)
        folder = call.run_folder("storage:delete")
        deleted = await self.deletions.delete(folder)
        return json_answer(
            {
                "folder": folder.text,
                "marked": deleted.marked,
                "kept": deleted.kept,
                "newer": deleted.newer,
            }
        )


def runs_router(operations: RunOperations) -> OperationRouter:
    """The routes of runs, below `/storage/runs`."""
    router = OperationRouter("/storage/runs", tag="Storage")
    router.add(
        "",
        Operation(
            "GET",
            operations.list_runs,
            (401, 403, 501, 503),
            answer=list[ListedRun],
            query=RUNS_QUERY,
            is_paged=True,
        ),
    )
    # A run may be called `publish`: what is no POST is about the folder of that name.
    router.add(
        FOLDER_PATH + _PUBLISH,
        Operation(
            "POST",
            operations.publish_run,
            (401, 403, 404, 409, 413, 415, 501, 503, 507),
            body=RunToPublish,
            may_lack_body=True,
            answer=RunView,
        ),
        passes=("GET", "DELETE"),
    )
    router.add(
        FOLDER_PATH,
        Operation("GET", operations.get_run, (401, 403, 404, 501, 503), answer=RunView),
        Operation(
            "DELETE",
            operations.delete_run,
            (401, 403, 404, 409, 501, 503),
            answer=DeletedRun,
        ),
    )
    return router


def _shown(run: Run, expires_at: datetime | None) -> dict[str, object]:
    return {
        "folder": run.folder,
        "state": run.state,
        "published_at": run.published_at.isoformat() if run.published_at else None,
        "count": run.count,
        "expires_at": expires_at.isoformat() if expires_at else None,
    }


async def _open_run(
    folder: ImagePath, page: list[dict[str, Any]], pages: AsyncIterator[list[dict[str, Any]]]
) -> AsyncIterator[bytes]:
    """A `RunView`, page by page."""
    head = {"folder": folder.text, "state": "open", "published_at": None}
    yield json_bytes(head)[:-1] + b',"images":['
    count = 0
    while True:
        images = json_bytes(page)[1:-1]
        yield (b"," if count and page else b"") + images
        count += len(page)
        await asyncio.sleep(0)  # others have their turn
        following = await anext(pages, None)
        if following is None:
            break
        page = following
    yield b'],"count":%d}' % count
