"""Deletions that were given up, over HTTP: look at them, try them again, or forget them."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize
from stillroom.http.query import PAGE_QUERY, parse_page_query
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import DeadLetter

if TYPE_CHECKING:  # else every start would wait for the database's import
    from stillroom.media.rows.dead_letters import DeadLetterRows


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

    async def list_dead_letters(self, request: Request) -> Response:
        """List the deletions that were given up, newest first."""
        call, rows = await self._rows(request)
        asked = parse_page_query(call.query)
        dead_letters = await rows.page(after=asked.start_after, limit=asked.limit + 1)
        shown = dead_letters[: asked.limit]
        response = json_answer([_shown(dead_letter) for dead_letter in shown])
        if len(dead_letters) > len(shown):
            response.headers["link"] = asked.link_to_next(shown[-1].id)
        return response

    async def retry_dead_letter(self, request: Request) -> Response:
        """Try a deletion again that was given up; everything is checked anew."""
        call, rows = await self._rows(request)
        return json_answer(_shown(await rows.retry(call.path_id("letter_id"))))

    async def drop_dead_letter(self, request: Request) -> Response:
        """Forget a deletion that was given up; the bytes stay."""
        call, rows = await self._rows(request)
        return json_answer(_shown(await rows.drop(call.path_id("letter_id"))))

    async def _rows(self, request: Request) -> "tuple[Call, DeadLetterRows]":
        """The rows, once the request's sender may use the whole library."""
        call = await Call.of(request, self.authorize)
        call.grant.require_everywhere("media")
        return call, (await self.database.rows()).dead_letters


def dead_letters_router(operations: DeadLetterOperations) -> OperationRouter:
    """The routes of dead letters, below `/media-dead-letters`."""
    router = OperationRouter("/media-dead-letters", tag="Media")
    router.add(
        "",
        Operation(
            "GET",
            operations.list_dead_letters,
            (401, 403, 503),
            answer=list[DeadLetterView],
            query=PAGE_QUERY,
            is_paged=True,
        ),
    )
    router.add(
        "/{letter_id}/retry",
        Operation(
            "POST", operations.retry_dead_letter, (401, 403, 404, 503), answer=DeadLetterView
        ),
    )
    router.add(
        "/{letter_id}",
        Operation(
            "DELETE", operations.drop_dead_letter, (401, 403, 404, 503), answer=DeadLetterView
        ),
    )
    return router


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
