"""A store whose changes become events, as its tests see it."""

from collections.abc import Iterable
from dataclasses import dataclass

from media.library import key
from stillroom.features.events.database import event_rows
from stillroom.features.events.event import Event
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search.filling import IndexFilling
from stillroom.store.causes import Cause, caused_by
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from waiting import eventually

Told = tuple[str, str | None]


@dataclass
class Feed:
    storage: ImageStorage
    database: MediaDatabase
    filling: IndexFilling

    async def save(self, path: str, data: bytes = b"bytes", by: str | None = None) -> None:
        with caused_by(Cause(by)):
            await self.storage.save(key(path), BytesSource(data))

    async def delete(self, path: str, cause: Cause = Cause()) -> None:  # noqa: B008  (frozen)
        with caused_by(cause):
            await self.storage.delete(key(path))

    async def events(self) -> list[Event]:
        return [*(await (await event_rows(self.database)).read(0, 1000)).events]

    async def becomes(self, *expected: Told) -> list[Event]:
        """Wait until these are the events, in this order, and return them."""
        found: list[Event] = []

        async def is_there() -> bool:
            found[:] = await self.events()
            return told(found) == [*expected]

        await eventually(is_there, said=lambda: (told(found), expected))
        return found

    async def becomes_many(self, count: int) -> list[Event]:
        """Wait until there are that many events, and return them."""

        async def is_there() -> bool:
            return len(await self.events()) == count

        await eventually(is_there)
        return await self.events()


def told(events: Iterable[Event]) -> list[Told]:
    return [(event.type, event.path) for event in events]
