"""Operations of the media library (`store.media`), without I/O."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Flow, Wait
from stillroom.client.retries import Attempts, Retries, persistently
from stillroom.client.values import (
    HealingProgress,
    MediaResource,
    ResourceFilters,
)
from stillroom.errors import ResourceNotFound
from stillroom.paths import ImagePath, StorageKey

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
            raise UnexpectedAnswer(f"the server lists what is no resource: {error}") from error

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


def _target(resource_id: ResourceId) -> str:
    return f"{_RESOURCES}/{quote(str(resource_id), safe='')}"


def resources_query(filters: ResourceFilters) -> str:
    """Return the query string for the first page of a listing of resources."""
    pairs = [("limit", str(_PAGE))]
    for name, value in filters.items():
        if isinstance(value, datetime):
            pairs.append((name, value.isoformat()))
        elif isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif isinstance(value, Iterable):
            pairs += [(name, str(one)) for one in value]
    return "?" + urlencode(pairs, quote_via=quote)
