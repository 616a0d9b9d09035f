"""HTTP operations on runs (folders of images that are published together)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Request, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from stillroom.errors import BackendUnavailable, InvalidParameter, InvalidPath
from stillroom.features.database.clock import to_nanoseconds
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.listing import Run, RunListing, State
from stillroom.features.runs.manifest import manifest_key
from stillroom.features.runs.service import Runs
from stillroom.paths import ImagePath, ImagePrefix
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.operation import raw_image_path
from stillroom.store.api.responses import image_response, json_answer, json_bytes
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Authorize, Scope
from stillroom.store.http.parameters import (
    DEFAULT_LIMIT,
    EVERY_PATH,
    DeleteParameters,
    Parameter,
    choice,
    link_after,
    page_size,
    path_prefix,
)
from stillroom.store.http.problems import JSON_HEADERS
from stillroom.store.http.query import MAX_LIMIT
from stillroom.store.http.serving import PRIVATE_CACHE
from stillroom.wire import runs as wire

_FOLDER: Final = "/{folder:image_path}"
_PUBLISH: Final = "/publish"

_EXPIRATIONS_TIMEOUT_S: Final = 2.0

_Page = list[dict[str, Any]]


class RunToPublish(JsonForm, max_bytes=1024, example='{"expected": 4}'):
    """Request body for publishing a run."""

    expected: int | None = Field(
        default=None,
        ge=0,
        description="Required number of images; null accepts any number.",
        examples=[4],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsParameters:
    """Query parameters of `GET /storage/runs`."""

    prefix: Annotated[
        ImagePrefix,
        path_prefix("Literal text that folders begin with, compared with a trailing slash."),
    ] = EVERY_PATH
    limit: Annotated[int, page_size("Runs", MAX_LIMIT)] = DEFAULT_LIMIT
    start_after: Annotated[
        str,
        Parameter(
            lambda text: ImagePath.parse(text).text if text else "",
            {"type": "string", "default": ""},
            "Only runs after this folder, the last one of the previous page. Not with a sort by "
            "time.",
        ),
    ] = ""
    state: Annotated[
        str | None, choice("published", "open", description="Only runs in this state.")
    ] = None
    sort: Annotated[
        str,
        choice(
            "folder",
            "published",
            "-published",
            default="folder",
            description="Sorted by time, the list has one page, and open runs come last.",
        ),
    ] = "folder"

    def __post_init__(self) -> None:
        if self.start_after and self.sort != "folder":
            raise InvalidParameter("can be used only with sort=folder", at=("query", "start_after"))


@view_of(wire.RunInfo, state=State)
class ListedRun(BaseModel):
    """Run (folder of images that are published together) in a listing."""


@view_of(wire.RunImage)
class RunImage(BaseModel):
    """Image of a run, with its path and properties."""


@view_of(wire.PublishedRun, state=State, images=list[RunImage])
class RunView(BaseModel):
    """Run with its images: those in its manifest or, if it is unpublished, those in the folder."""


@view_of(wire.DeletedRun, optional=("trash_id",))
class DeletedRun(BaseModel):
    """Result of deleting a run: the numbers of deleted and kept images."""


@dataclass(frozen=True, slots=True)
class RunOperations:
    """Operations that list, publish, read and delete runs.

    `expiration` takes a run's folder and publication time (nanoseconds). It returns the time at
    which the run expires, or None if the run is kept.
    """

    runs: Runs
    deletions: RunDeletions
    listing: RunListing
    authorize: Authorize
    expiration: Callable[[str, int], Awaitable[datetime | None]] | None = None

    @Operation("GET", "", (501, 503), answer=list[ListedRun], query=RunsParameters, is_paged=True)
    async def list_runs(self, request: Request) -> Response:
        """List runs. A run is a folder that is published or that contains images."""
        call = await Call.of(request, self.authorize)
        parameters = call.query(RunsParameters)
        visible = call.grant.narrow("storage:read", parameters.prefix)
        if parameters.sort != "folder":
            return await self._respond(await self._page_by_time(parameters, visible))
        page: list[Run] = []
        async for run in self._list(parameters, visible):
            if len(page) == parameters.limit:
                response = await self._respond(page)
                last, query = page[-1].folder, call.raw_query
                response.headers["link"] = link_after(last, query, RunsParameters)
                return response
            page.append(run)
        return await self._respond(page)

    async def _respond(self, page: Sequence[Run]) -> Response:
        """Return runs as JSON. Expirations are null if the database does not respond in time."""
        expirations = dict[str, datetime | None]()
        if (find := self.expiration) is not None:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout(_EXPIRATIONS_TIMEOUT_S):
                    for run in page:
                        if (at := run.published_at) is not None:
                            expirations[run.folder] = await find(run.folder, to_nanoseconds(at))
        return json_answer([_as_json(run, expirations.get(run.folder)) for run in page])

    async def _list(self, parameters: RunsParameters, visible: ImagePrefix) -> AsyncIterator[Run]:
        async for run in self.listing.runs(visible, parameters.start_after):
            if parameters.state in (None, run.state):
                yield run

    async def _page_by_time(self, query: RunsParameters, visible: ImagePrefix) -> Sequence[Run]:
        sign = -1 if query.sort.startswith("-") else 1

        def order(run: Run) -> tuple[bool, float]:
            at = run.published_at
            return at is None, 0 if at is None else sign * at.timestamp()

        page: list[Run] = []
        async for run in self._list(query, visible):
            page.append(run)
            if len(page) == 2 * query.limit:  # so that memory stays bounded
                page = (await asyncio.to_thread(sorted, page, key=order))[: query.limit]
        return sorted(page, key=order)[: query.limit]

    # A run may be named `publish`, so GET and DELETE of this path are requests for that run.
    @Operation(
        "POST",
        _FOLDER + _PUBLISH,
        (404, 409, 501, 503, 507),
        body=RunToPublish,
        may_lack_body=True,
        answer=RunView,
        passes=("GET", "DELETE"),
    )
    async def publish_run(self, request: Request) -> Response:
        """Publish a run: write its manifest, a permanent list of all images in the folder."""
        call = await Call.of(request, self.authorize)
        folder = _run_folder(call, "storage:read", "storage:write", suffix=_PUBLISH)
        body = await call.json(RunToPublish) if call.has_body else RunToPublish()
        manifest = await self.runs.publish(folder, body.expected)
        return await image_response({}, manifest, PRIVATE_CACHE)

    @Operation("GET", _FOLDER, (404, 501, 503), answer=RunView)
    async def get_run(self, request: Request) -> Response:
        """Get the manifest of a published run, or the images of a run that is not published yet."""
        call = await Call.of(request, self.authorize)
        folder = _run_folder(call, "storage:read")
        manifest = await self.runs.open_manifest(folder)
        if manifest is not None:
            return await image_response(call.fields, manifest, PRIVATE_CACHE)
        await self.runs.require_images(folder)
        pages = self.runs.describe_images(folder)
        # An error in the first page can still be reported with its own status code.
        first: _Page = await anext(pages, [])
        return StreamingResponse(_open_run(folder, first, pages), headers=dict(JSON_HEADERS))

    @Operation("DELETE", _FOLDER, (404, 409, 501, 503), answer=DeletedRun, query=DeleteParameters)
    async def delete_run(self, request: Request) -> Response:
        """Delete a run's manifest immediately, and its images after the grace period."""
        call = await Call.of(request, self.authorize)
        folder = _run_folder(call, "storage:delete")
        purge = call.query(DeleteParameters).purge
        deleted = await self.deletions.delete(folder, to_trash=not purge)
        numbers = {"marked": deleted.marked, "kept": deleted.kept, "newer": deleted.newer}
        trash_id = {} if deleted.trash_id is None else {"trash_id": str(deleted.trash_id)}
        return json_answer({"folder": folder.text, **numbers, **trash_id})


def _run_folder(call: Call, *scopes: Scope, suffix: str = "") -> ImagePath:
    """Return the run's folder from the URL. Raise an error if the token lacks a scope for it."""
    try:
        folder = ImagePath.from_target(raw_image_path(call.request, suffix=suffix))
        manifest_key(folder)  # the path may be too long for it
    except InvalidPath as error:
        raise InvalidPath(str(error), at=("path", "folder")) from error
    for scope in scopes:
        call.grant.require_folder(scope, folder)
    return folder


def _as_json(run: Run, expires_at: datetime | None) -> dict[str, object]:
    return {
        "folder": run.folder,
        "state": run.state,
        "published_at": run.published_at.isoformat() if run.published_at else None,
        "count": run.count,
        "expires_at": expires_at.isoformat() if expires_at else None,
    }


async def _open_run(
    folder: ImagePath, page: _Page | None, pages: AsyncIterator[_Page]
) -> AsyncIterator[bytes]:
    head = {"folder": folder.text, "state": "open", "published_at": None}
    yield json_bytes(head)[:-1] + b',"images":['
    count = 0
    while page is not None:
        yield (b"," if count and page else b"") + json_bytes(page)[1:-1]
        count += len(page)
        await asyncio.sleep(0)
        page = await anext(pages, None)
    yield b'],"count":%d}' % count
