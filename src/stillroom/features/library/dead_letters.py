"""HTTP operations on dead letters: jobs that failed permanently and are no longer retried."""

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.requests import PageParameters, library_call
from stillroom.features.library.resource import DeadLetter
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.auth.grants import Authorize
from stillroom.store.http.parameters import link_after

if TYPE_CHECKING:  # the database modules are slow to import
    from stillroom.features.library.rows.dead_letters import DeadLetterRows
    from stillroom.store.api.call import Call


class DeadLetterView(BaseModel):
    """Deletion, webhook or purge that failed permanently, so that it is no longer retried."""

    id: uuid.UUID
    kind: str = Field(description="`deletion`, `webhook` or `purge`", examples=["deletion"])
    storage_key: str | None = Field(
        description="key of the object to delete; null for other kinds",
        examples=["compute/generations/1/cat.png"],
    )
    save_id: str | None = Field(
        description="version of the object to delete; other versions are not deleted",
        examples=["2a-18ff3d2b6c1a"],
    )
    reason: Literal["relocated", "deleted", "erased", "expired", "rule", "orphan", "trash"] | None
    payload: dict[str, Any] = Field(
        description="the job: for a webhook, `endpoint`, `path` and `event`; for a purge, `url`"
    )
    created_at: datetime
    failed_at: datetime
    attempts: int
    last_error: str | None = Field(examples=["the bucket is out of reach"])


@dataclass(frozen=True, slots=True)
class DeadLetterOperations:
    """Operations that list, retry and drop dead letters."""

    database: MediaDatabase
    authorize: Authorize

    @Operation("GET", "", (503,), answer=list[DeadLetterView], query=PageParameters, is_paged=True)
    async def list_dead_letters(self, request: Request) -> Response:
        """List the deletions, webhooks and purges that failed permanently, newest first."""
        call, rows = await self._rows(request)
        parameters = call.query(PageParameters)
        dead_letters = await rows.page(after=parameters.start_after, limit=parameters.limit + 1)
        page = dead_letters[: parameters.limit]
        response = json_answer([_as_json(dead_letter) for dead_letter in page])
        if len(dead_letters) > len(page):
            response.headers["link"] = link_after(page[-1].id, call.raw_query, PageParameters)
        return response

    @Operation("POST", "/{letter_id}/retry", (404, 503), answer=DeadLetterView)
    async def retry_dead_letter(self, request: Request) -> Response:
        """Retry a job that failed permanently. All checks before a deletion are repeated."""
        call, rows = await self._rows(request)
        return json_answer(_as_json(await rows.retry(call.path_id("letter_id"))))

    @Operation("DELETE", "/{letter_id}", (404, 503), answer=DeadLetterView)
    async def drop_dead_letter(self, request: Request) -> Response:
        """Forget a job that failed permanently. Nothing is deleted, sent or purged."""
        call, rows = await self._rows(request)
        return json_answer(_as_json(await rows.drop(call.path_id("letter_id"))))

    async def _rows(self, request: Request) -> "tuple[Call, DeadLetterRows]":
        call = await library_call(request, self.authorize)
        return call, (await self.database.rows()).dead_letters


def _as_json(dead_letter: DeadLetter) -> dict[str, object]:
    named = {name: dead_letter.payload.get(name) for name in ("storage_key", "save_id", "reason")}
    times = {name: getattr(dead_letter, name).isoformat() for name in ("created_at", "failed_at")}
    return {**asdict(dead_letter), **named, **times, "id": str(dead_letter.id)}
