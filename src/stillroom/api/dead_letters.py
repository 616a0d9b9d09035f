"""Deletions that were given up, over HTTP: look at them, try them again, or forget them."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.routing import Route

from stillroom.api.authorize import Authorize, authenticate
from stillroom.api.document import BEARER, answer_headers, extra, refusals
from stillroom.api.images import MethodNotAllowed, json_answer
from stillroom.api.operation import OperationRoute, require_literal_route
from stillroom.http.fields import combined
from stillroom.http.query import parse_page_query, resource_id
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import DeadLetter

if TYPE_CHECKING:  # else every start would wait for the database's import
    from stillroom.media.rows.deletions import DeletionQueue

_ID: Any = Path(json_schema_extra={"format": "uuid"})


class DeadLetterView(BaseModel):
    """A deletion that was given up."""

    id: uuid.UUID
    storage_key: str = Field(
        description="what should have been deleted", examples=["compute/generations/1/cat.png"]
    )
    save_id: str = Field(
        description="the very save of it; another one is not deleted",
        examples=["2a-18ff3d2b6c1a"],
    )
    reason: Literal["relocated", "deleted", "expired", "orphan"]
    created_at: datetime
    failed_at: datetime
    attempts: int
    last_error: str | None = Field(examples=["the bucket is out of reach"])


@dataclass(frozen=True, slots=True)
class DeadLetterOperations:
    """The operations on dead letters.

    Attributes:
        database: Where they are.
        authorize: Who is asking.
    """

    database: MediaDatabase
    authorize: Authorize

    async def list_dead_letters(
        self,
        request: Request,
        limit: Annotated[
            int, Query(ge=1, description="Letters on a page; over 1,000 counts as 1,000.")
        ] = 100,
        start_after: Annotated[
            uuid.UUID | None, Query(description="Only older ones: a page's last id.")
        ] = None,
    ) -> Response:
        """List the deletions that were given up, newest first."""
        del limit, start_after
        queue = await self._queue(request)
        asked = parse_page_query(request.scope["query_string"])
        dead_letters = await queue.dead_letters(after=asked.start_after, limit=asked.limit + 1)
        shown = dead_letters[: asked.limit]
        response = json_answer([_shown(dead_letter) for dead_letter in shown])
        if len(dead_letters) > len(shown):
            response.headers["link"] = asked.link_to_next(shown[-1].id)
        return response

    async def retry_dead_letter(self, request: Request, dead_letter_id: str = _ID) -> Response:
        """Try a deletion again that was given up; everything is checked anew."""
        del dead_letter_id
        queue = await self._queue(request)
        return json_answer(_shown(await queue.retry(_id(request))))

    async def drop_dead_letter(self, request: Request, dead_letter_id: str = _ID) -> Response:
        """Forget a deletion that was given up; the bytes stay."""
        del dead_letter_id
        queue = await self._queue(request)
        return json_answer(_shown(await queue.drop(_id(request))))

    async def _queue(self, request: Request) -> "DeletionQueue":
        """The rows, once the request's sender may use the whole library."""
        require_literal_route(request)
        fields = combined(request.headers.raw)
        (await authenticate(self.authorize, fields)).require_everywhere("media")
        return (await self.database.rows()).queue


def dead_letters_router(operations: DeadLetterOperations) -> APIRouter:
    """The routes of dead letters, below `/media-dead-letters`."""
    root, one = "/media-dead-letters", "/media-dead-letters/{letter_id}"
    router = APIRouter(
        tags=["Media"],
        route_class=OperationRoute,
        dependencies=[BEARER],
    )
    add = router.add_api_route
    add(
        root,
        operations.list_dead_letters,
        methods=["GET"],
        response_model=list[DeadLetterView],
        responses=refusals(401, 403, 503),
        openapi_extra=extra(answers={200: {"headers": answer_headers("Link")}}),
    )
    add(
        one + "/retry",
        operations.retry_dead_letter,
        methods=["POST"],
        response_model=DeadLetterView,
        responses=refusals(401, 403, 404, 503),
        openapi_extra=extra(),
    )
    add(
        one,
        operations.drop_dead_letter,
        methods=["DELETE"],
        response_model=DeadLetterView,
        responses=refusals(401, 403, 404, 503),
        openapi_extra=extra(),
    )
    router.routes.append(Route(root, MethodNotAllowed("GET")))
    router.routes.append(Route(one + "/retry", MethodNotAllowed("POST")))
    router.routes.append(Route(one, MethodNotAllowed("DELETE")))
    return router


def _id(request: Request) -> uuid.UUID:
    return resource_id(request.path_params["dead_letter_id"], ("path", "dead_letter_id"))


def _shown(dead_letter: DeadLetter) -> dict[str, object]:
    return {
        "id": str(dead_letter.id),
        "storage_key": dead_letter.storage_key.text,
        "save_id": dead_letter.save_id,
        "reason": dead_letter.reason,
        "created_at": dead_letter.created_at.isoformat(),
        "failed_at": dead_letter.failed_at.isoformat(),
        "attempts": dead_letter.attempts,
        "last_error": dead_letter.last_error,
    }
