"""HTTP operation that reads the feed of events. It can wait for new events (long poll)."""

import asyncio
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.errors import BackendUnavailable, CursorExpired, FeatureOff
from stillroom.features.database.database import Database
from stillroom.features.events.cursor import LATEST, check_cursor, cursor_of, position_of
from stillroom.features.events.database import event_rows, has_full_text
from stillroom.features.events.event import Event
from stillroom.features.events.types import LIBRARY_TYPES, TYPES
from stillroom.features.events.waiting import FeedWaiting
from stillroom.store.api.call import Call
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Authorize, Grant
from stillroom.store.http.parameters import DEFAULT_LIMIT, EVERY_PATH, Parameter, Prefix, page_size
from stillroom.wire import events as wire

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.events.rows import EventRows

_MAX_EMPTY_PAGES: Final = 10  # pages without a match in one request; each examines 20,000 events
_MAX_LIMIT: Final = 1000
_MAX_WAIT_S: Final = 50
_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?", re.ASCII)


def _parse_types(text: str) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if unknown := [name for name in types if name not in TYPES]:
        raise ValueError(f"there is no type {unknown[0][:64]!r} (existing: {', '.join(TYPES)})")
    return types


def _parse_wait(text: str) -> float:
    if not _SECONDS.fullmatch(text) or float(text) > _MAX_WAIT_S:
        raise ValueError(f"must be a number of seconds, 0 to {_MAX_WAIT_S}")
    return float(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedParameters:
    """Query parameters of `GET /storage/events`. Without types, events of all types are sent."""

    after: Annotated[
        str,
        Parameter(
            check_cursor,
            {"type": "string", "default": ""},
            "Only events after this cursor. Without it, the feed starts at the oldest event that "
            "is kept. `latest` returns the cursor of the end of the feed, and no events.",
        ),
    ] = ""
    types: Annotated[
        tuple[str, ...],
        Parameter(
            _parse_types,
            {"type": "string", "default": ""},
            "Only events of these types, separated by commas.",
        ),
    ] = ()
    prefix: Prefix = EVERY_PATH
    limit: Annotated[int, page_size("Events", _MAX_LIMIT)] = DEFAULT_LIMIT
    wait: Annotated[
        float,
        Parameter(
            _parse_wait,
            {"type": "number", "minimum": 0, "maximum": _MAX_WAIT_S, "default": 0},
            "Seconds to wait for an event if there is none yet.",
        ),
    ] = 0.0


@view_of(wire.Event, type=Literal[TYPES])
class FeedEvent(BaseModel):
    """Event of the feed."""


class FeedPage(BaseModel):
    """Page of the feed."""

    events: list[FeedEvent]
    next: str = Field(description="`after` of the next page", examples=[wire.CURSOR_EXAMPLE])
    caught_up: bool = Field(description="true if there are no later events yet")


@dataclass(frozen=True, slots=True)
class EventOperation:
    """Operation that reads the feed. If `is_on` is False, requests are refused with 501."""

    database: Database
    authorize: Authorize
    waiting: FeedWaiting
    is_on: bool = True

    @Operation("GET", "", (410, 501, 503), answer=FeedPage, query=FeedParameters)
    async def list_events(self, request: Request) -> Response:
        """List events, oldest first: images, runs and media resources that have changed."""
        call = await Call.of(request, self.authorize)
        query = call.query(FeedParameters)
        prefix = call.grant.narrow("storage:read", query.prefix)
        query = replace(query, prefix=prefix, types=_visible_types(call.grant, query.types))
        if not self.is_on:
            raise FeatureOff("this server records no events: STILLROOM_EVENTS_RETENTION is 0")
        rows = await self._rows()
        state = await rows.state()
        if query.after == LATEST:
            cursor = cursor_of(state.last_position, state.feed_id)
            return json_answer({"events": [], "next": cursor, "caught_up": True})
        after = position_of(query.after, state.feed_id) if query.after else None
        return json_answer(await self._read(request, rows, after, query))

    async def _read(
        self, request: Request, rows: "EventRows", after: int | None, query: FeedParameters
    ) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        until, empty_pages = loop.time() + query.wait, 0
        types, prefix = query.types, query.prefix.text

        def matches(event: Event) -> bool:
            return event.type in types and event.is_below(prefix)

        while True:
            page = await rows.read(after, query.limit, types=types, prefix=prefix)
            if after is not None and after < page.state.dropped_position:
                raise CursorExpired
            after, left_s = page.through, until - loop.time()
            if page.events or self.waiting.is_ended or empty_pages == _MAX_EMPTY_PAGES:
                break
            if not page.is_last:
                empty_pages += 1
            elif left_s > 0 and self.waiting.has_room:
                after = await self.waiting.wait(request, page, left_s, matches)
            else:
                break
        feed_id = page.state.feed_id
        return {
            "events": [event.as_json(cursor_of(event.position, feed_id)) for event in page.events],
            "next": cursor_of(page.through, feed_id),
            "caught_up": page.is_last,
        }

    async def _rows(self) -> "EventRows":
        try:
            return await event_rows(self.database)
        except BackendUnavailable:
            if has_full_text(self.database):
                raise
            raise FeatureOff(
                "this server records no events, because its SQLite has no full-text search (FTS5) "
                "for the search index: use PostgreSQL with STILLROOM_DATABASE_URL"
            ) from None


def _visible_types(grant: Grant, types: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requested types of events. The default is all types that the token may read."""
    if any(name in LIBRARY_TYPES for name in types):
        grant.require_scope("media")
    return types or tuple(
        name for name in TYPES if name not in LIBRARY_TYPES or "media" in grant.scopes
    )
