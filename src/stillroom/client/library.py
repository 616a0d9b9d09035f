"""Client for the media library (`store.media`): operations without I/O, sync and async classes."""

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
    """Operations of the media library, without I/O.

    Attributes:
        retries: Retry settings.
    """

    retries: Retries

    def page(self, query: str) -> Flow[tuple[list[MediaResource], str | None]]:
        """Return the resources on a page of the listing, and the next page's query or None."""
        answer = yield from self._send("GET", f"{_RESOURCES}{query}")
        entries, more = answers.listed(answer, "listing")
        try:
            return [answers.resource_of(entry) for entry in entries], more
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"the server returned an invalid resource: {error}") from error

    def ingest(self, path: ImagePath, *, relocate: bool) -> Flow[MediaResource]:
        """Add an image to the library. Images with identical bytes share one resource."""
        content = {"storage_key": StorageKey.of_image(path).text, "relocate": relocate}
        answer = yield from self._send("POST", f"{_RESOURCES}/ingest", content)
        return answers.resource(answer, path.text)

    def get(self, resource_id: ResourceId) -> Flow[MediaResource]:
        """Return a resource."""
        answer = yield from self._send("GET", _target(resource_id))
        return answers.resource(answer, str(resource_id))

    def update(
        self, resource_id: ResourceId, changes: Mapping[str, object], *, only_unset: bool
    ) -> Flow[MediaResource]:
        """Update a resource. The request is idempotent."""
        target = _target(resource_id) + ("?only_unset=true" if only_unset else "")
        answer = yield from self._send("PATCH", target, changes)
        return answers.resource(answer, str(resource_id))

    def delete(self, resource_id: ResourceId) -> Flow[None]:
        """Delete a resource."""
        attempts = Attempts(self.retries)
        answer = yield from persistently(Call("DELETE", _target(resource_id)), attempts)
        try:
            answers.document(answer, str(resource_id))
        except ResourceNotFound:
            if not attempts.doubtful:  # otherwise an earlier attempt may have deleted it
                raise

    def tags(
        self,
        resource_id: ResourceId,
        *,
        add: Iterable[str],
        remove: Iterable[str],
        replace: Iterable[str] | None,
    ) -> Flow[list[str]]:
        """Replace, add and remove tags, in this order. Return all tags of the resource."""
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
            answer = yield from self._send(method, where, content)
            tags = [str(tag) for tag in answers.field(answer, "tags", str(resource_id))]
        return tags

    def heal(self, ids: Iterable[ResourceId] | None, progress: OnHealing | None) -> Flow[int]:
        """Ask the server to compute missing fields. With `progress`, wait until it has done so."""
        content = {} if ids is None else {"ids": [str(one) for one in ids]}
        answer = yield from self._send("POST", f"{_RESOURCES}/heal", content)
        total = int(answers.field(answer, "count", "healing"))
        waiting = total
        while progress is not None:
            progress(HealingProgress(total, waiting))
            if not waiting:
                break
            yield Wait(_POLL_S)
            answer = yield from self._send("GET", f"{_RESOURCES}/heal")
            waiting = int(answers.field(answer, "count", "healing"))
        return total

    def _send(
        self, method: str, target: str, content: Mapping[str, object] | None = None
    ) -> Flow[Answer]:
        call = Call(method, target)
        if content is not None:
            call = Call(method, target, _JSON, json.dumps(content).encode())
        return (yield from persistently(call, Attempts(self.retries)))


class Runs(Protocol):
    """Function that executes a `Flow`: it sends the requests that the generator yields."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Execute a flow and return its result."""
        ...


class AsyncRuns(Protocol):
    """Asynchronous version of `Runs`."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]:
        """Execute a flow and return its result."""
        ...


class MediaLibrary:
    """Media library of a server, available as `ImageStore.media`."""

    def __init__(self, calls: LibraryCalls, run: Runs) -> None:
        self._calls = calls
        self._run = run

    def list(self, **filters: Unpack[ResourceFilters]) -> Iterator[MediaResource]:
        """Iterate over all resources, newest first. Pages are requested as needed."""
        query: str | None = _query(filters)
        while query is not None:
            resources, query = self._run(self._calls.page(query))
            yield from resources

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """Add an image to the library. If its bytes are already in it, return that resource.

        Args:
            path: Path of the image, as for `save`.
            relocate: Copy the bytes into the library and later delete the image. If False, the
                resource refers to the image at its present path.
        """
        return self._run(self._calls.ingest(named(path), relocate=relocate))

    def get(self, resource_id: ResourceId) -> MediaResource:
        """Return a resource.

        Raises:
            ResourceNotFound: The resource does not exist.
        """
        return self._run(self._calls.get(resource_id))

    def update(
        self,
        resource_id: ResourceId,
        *,
        only_unset: bool = False,
        **changes: Unpack[ResourceChanges],
    ) -> MediaResource:
        """Update the fields in `changes`; with `only_unset`, only those that are None so far.

        With `only_unset`, several programs can set the same field: the first value is kept.

        Raises:
            ResourceNotFound: The resource does not exist.
        """
        return self._run(self._calls.update(resource_id, changes, only_unset=only_unset))

    def delete(self, resource_id: ResourceId) -> None:
        """Delete a resource. Its bytes are deleted after the grace period.

        Raises:
            ResourceNotFound: The resource does not exist.
            ResourceProtected: The resource is protected.
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
        """Change the tags of a resource if changes are passed. Return all its tags, sorted.

        Args:
            resource_id: ID of the resource.
            add: Tags to add.
            remove: Tags to remove.
            replace: Tags that replace all existing ones, before `add` and `remove` are applied.
        """
        return self._run(self._calls.tags(resource_id, add=add, remove=remove, replace=replace))

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """Compute missing fields of resources. Return the number of resources to be completed.

        The server does this in the background if its sweeper (a periodic job) is running.

        Args:
            ids: Up to 1,000 resource IDs, or None for all resources.
            progress: Called once a second until all resources are complete. If it is None, the
                method returns immediately.
        """
        return self._run(self._calls.heal(ids, progress))


class AsyncMediaLibrary:
    """Asynchronous version of `MediaLibrary`, available as `AsyncImageStore.media`."""

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
    pairs = [("limit", str(_PAGE))]
    for name, value in filters.items():
        if isinstance(value, datetime):
            pairs.append((name, value.isoformat()))
        elif isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif isinstance(value, Iterable):
            pairs += [(name, str(one)) for one in value]
    return "?" + urlencode(pairs, quote_via=quote)
