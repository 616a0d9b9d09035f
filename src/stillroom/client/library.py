"""The media library, as `store.media`: each call once, as a generator, and its two faces."""

import builtins
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar, Unpack
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Flow, Wait
from stillroom.client.retries import Attempts, Retries, persistently
from stillroom.client.sources import named
from stillroom.client.values import (
    HealingProgress,
    MediaResource,
    ResourceChanges,
    ResourceFilters,
)
from stillroom.errors import ResourceNotFound
from stillroom.paths import ImagePath, StorageKey

T = TypeVar("T")

_RESOURCES: Final = "/media-resources"
_JSON: Final = {"content-type": "application/json"}
_PAGE: Final = 250
_POLL_S: Final = 1.0

OnHealing = Callable[[HealingProgress], None]
ResourceId = str | uuid.UUID


@dataclass(frozen=True, slots=True)
class LibraryCalls:
    """What the library is asked. No I/O.

    Attributes:
        retries: When to give up.
    """

    retries: Retries

    def page(self, query: str) -> Flow[tuple[list[MediaResource], str | None]]:
        """The resources of a page, and the query of the next one."""
        answer = yield from self._sent("GET", f"{_RESOURCES}{query}")
        entries, more = answers.listed(answer, "listing")
        try:
            return [answers.resource_of(entry) for entry in entries], more
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"the server lists what is no resource: {error}") from error

    def ingest(self, path: ImagePath, *, relocate: bool) -> Flow[MediaResource]:
        """Ingest an image. Identical bytes map to one resource."""
        content = {"storage_key": StorageKey.of_image(path).text, "relocate": relocate}
        answer = yield from self._sent("POST", f"{_RESOURCES}/ingest", content)
        return answers.resource(answer, path.text)

    def get(self, resource_id: ResourceId) -> Flow[MediaResource]:
        """One resource."""
        answer = yield from self._sent("GET", _target(resource_id))
        return answers.resource(answer, str(resource_id))

    def update(
        self, resource_id: ResourceId, changes: Mapping[str, object], *, only_unset: bool
    ) -> Flow[MediaResource]:
        """Change it; twice is once."""
        target = _target(resource_id) + ("?only_unset=true" if only_unset else "")
        answer = yield from self._sent("PATCH", target, changes)
        return answers.resource(answer, str(resource_id))

    def delete(self, resource_id: ResourceId) -> Flow[None]:
        """Take it out of the library."""
        attempts = Attempts(self.retries)
        answer = yield from persistently(Call("DELETE", _target(resource_id)), attempts)
        try:
            answers.document(answer, str(resource_id))
        except ResourceNotFound:
            if not attempts.doubtful:  # else an earlier attempt may have done it
                raise

    def tags(
        self,
        resource_id: ResourceId,
        *,
        add: Iterable[str],
        remove: Iterable[str],
        replace: Iterable[str] | None,
    ) -> Flow[list[str]]:
        """Its tags, after these changes in the order of the arguments."""
        target = f"{_target(resource_id)}/tags"
        calls: list[tuple[str, str, Iterable[str] | None]] = []
        if replace is not None:
            calls.append(("PUT", target, replace))
        if added := list(add):
            calls.append(("POST", target, added))
        if removed := [("tag", tag) for tag in remove]:
            calls.append(("DELETE", f"{target}?{urlencode(removed, quote_via=quote)}", None))
        tags: list[str] = []
        for method, where, given in calls or [("GET", target, None)]:
            content = None if given is None else {"tags": list(given)}
            answer = yield from self._sent(method, where, content)
            tags = [str(tag) for tag in answers.field(answer, "tags", str(resource_id))]
        return tags

    def heal(self, ids: Iterable[ResourceId] | None, progress: OnHealing | None) -> Flow[int]:
        """Have computed what is missing, and wait for it if the progress is to be seen."""
        content = {} if ids is None else {"ids": [str(one) for one in ids]}
        answer = yield from self._sent("POST", f"{_RESOURCES}/heal", content)
        total = int(answers.field(answer, "count", "healing"))
        waiting = total
        while progress is not None:
            progress(HealingProgress(total, waiting))
            if not waiting:
                break
            yield Wait(_POLL_S)
            answer = yield from self._sent("GET", f"{_RESOURCES}/heal")
            waiting = int(answers.field(answer, "count", "healing"))
        return total

    def _sent(
        self, method: str, target: str, content: Mapping[str, object] | None = None
    ) -> Flow[Answer]:
        call = Call(method, target)
        if content is not None:
            call = Call(method, target, _JSON, json.dumps(content).encode())
        return (yield from persistently(call, Attempts(self.retries)))


class Runs(Protocol):
    """Runs a call, and waits for it."""

    def __call__(self, flow: Flow[T], /) -> T:
        """What came of it."""
        ...


class AsyncRuns(Protocol):
    """`Runs` for an event loop."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]:
        """What came of it."""
        ...


class MediaLibrary:
    """The media library of a server; `ImageStore.media`."""

    def __init__(self, calls: LibraryCalls, run: Runs) -> None:
        self._calls = calls
        self._run = run

    def list(self, **filters: Unpack[ResourceFilters]) -> Iterator[MediaResource]:
        """All resources, newest first; the next page is asked for when it is needed."""
        query: str | None = _query(filters)
        while query is not None:
            resources, query = self._run(self._calls.page(query))
            yield from resources

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """Ingest an image; equal bytes give the resource that exists.

        Args:
            path: Of the image, as `save` takes it.
            relocate: Keep the bytes in the library and remove the image later; else it is
                recorded where it lies.
        """
        return self._run(self._calls.ingest(named(path), relocate=relocate))

    def get(self, resource_id: ResourceId) -> MediaResource:
        """One resource.

        Raises:
            ResourceNotFound: there is none.
        """
        return self._run(self._calls.get(resource_id))

    def update(
        self,
        resource_id: ResourceId,
        *,
        only_unset: bool = False,
        **changes: Unpack[ResourceChanges],
    ) -> MediaResource:
        """Change what `changes` names; with `only_unset` only what of this is None.

        So several enrichers may run in any order: the first value stands.

        Raises:
            ResourceNotFound: there is none.
        """
        return self._run(self._calls.update(resource_id, changes, only_unset=only_unset))

    def delete(self, resource_id: ResourceId) -> None:
        """Take a resource out of the library; its bytes go when the grace period is over.

        Raises:
            ResourceNotFound, ResourceProtected: as their names say.
        """
        self._run(self._calls.delete(resource_id))

    def tags(
        self,
        resource_id: ResourceId,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        replace: Iterable[str] | None = None,
    ) -> builtins.list[str]:
        """A resource's tags, sorted; after changing them, if anything is named.

        Args:
            resource_id: Of the resource.
            add: Tags that it shall have, too.
            remove: Tags that it shall not have.
            replace: Instead of all that it has; done first.
        """
        return self._run(self._calls.tags(resource_id, add=add, remove=remove, replace=replace))

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """Have computed what is missing of these resources, or of all; returns of how many.

        The server does that in the background, if its sweeper runs.

        Args:
            ids: Up to 1,000; None: all.
            progress: Called once a second until none waits any more; without it nothing is waited
                for.
        """
        return self._run(self._calls.heal(ids, progress))


class AsyncMediaLibrary:
    """`AsyncImageStore.media`; as `MediaLibrary`, method by method."""

    def __init__(self, calls: LibraryCalls, run: AsyncRuns) -> None:
        self._calls = calls
        self._run = run

    async def list(self, **filters: Unpack[ResourceFilters]) -> AsyncIterator[MediaResource]:
        """See `MediaLibrary.list`."""
        query: str | None = _query(filters)
        while query is not None:
            resources, query = await self._run(self._calls.page(query))
            for resource in resources:
                yield resource

    async def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """See `MediaLibrary.ingest`."""
        return await self._run(self._calls.ingest(named(path), relocate=relocate))

    async def get(self, resource_id: ResourceId) -> MediaResource:
        """See `MediaLibrary.get`."""
        return await self._run(self._calls.get(resource_id))

    async def update(
        self,
        resource_id: ResourceId,
        *,
        only_unset: bool = False,
        **changes: Unpack[ResourceChanges],
    ) -> MediaResource:
        """See `MediaLibrary.update`."""
        return await self._run(self._calls.update(resource_id, changes, only_unset=only_unset))

    async def delete(self, resource_id: ResourceId) -> None:
        """See `MediaLibrary.delete`."""
        await self._run(self._calls.delete(resource_id))

    async def tags(
        self,
        resource_id: ResourceId,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        replace: Iterable[str] | None = None,
    ) -> builtins.list[str]:
        """See `MediaLibrary.tags`."""
        return await self._run(
            self._calls.tags(resource_id, add=add, remove=remove, replace=replace)
        )

    async def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """See `MediaLibrary.heal`."""
        return await self._run(self._calls.heal(ids, progress))


def _target(resource_id: ResourceId) -> str:
    return f"{_RESOURCES}/{quote(str(resource_id), safe='')}"


def _query(filters: ResourceFilters) -> str:
    """The query of the first page."""
    pairs = [("limit", str(_PAGE))]
    for name, value in filters.items():
        if isinstance(value, datetime):
            pairs.append((name, value.isoformat()))
        elif isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif isinstance(value, Iterable):
            pairs += [(name, str(one)) for one in value]
    return "?" + urlencode(pairs, quote_via=quote)
