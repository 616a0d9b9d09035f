"""Client for the media library of a server (`ImageStore.media`)."""

import builtins
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Final, Unpack
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.exchange import Answer, Call
from stillroom.client.requests import check_names, target_of
from stillroom.client.retrying_sender import RetryingSender
from stillroom.client.sources import named
from stillroom.client.values import HealingProgress, ResourceChanges, ResourceFilters
from stillroom.errors import ResourceNotFound
from stillroom.paths import StorageKey
from stillroom.wire.media import MediaResource

_RESOURCES: Final = "/media-resources"
_PAGE: Final = 250
_POLL_S: Final = 1.0

OnHealing = Callable[[HealingProgress], None]
ResourceId = str | uuid.UUID


class MediaLibrary:
    """Client for the media library of a server, available as `ImageStore.media`."""

    def __init__(self, sender: RetryingSender) -> None:
        self._sender = sender

    def list(self, q: str = "", **filters: Unpack[ResourceFilters]) -> Iterator[MediaResource]:
        """Iterate over the resources that match all words of `q` and all filters, newest first."""
        check_names(filters, ResourceFilters)
        converted = {name: _convert(value) for name, value in filters.items()}
        target = target_of(_RESOURCES, {"limit": _PAGE, "q": q or None, **converted})
        yield from self._sender.items(target, partial(answers.decode, MediaResource), "resource")

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """Add the image at `path` to the library, or return the resource with identical bytes.

        With `relocate`, the bytes are copied into the library, and the image is deleted later.
        Otherwise, the resource refers to the image, and nothing is copied.
        """
        content = {"storage_key": StorageKey.of_image(named(path)).text, "relocate": relocate}
        answer = self._sender.request("POST", f"{_RESOURCES}/ingest", content)
        return answers.parsed(answer, path, MediaResource)

    def get(self, resource_id: ResourceId) -> MediaResource:
        """Return the resource with this ID, or raise `ResourceNotFound`."""
        answer = self._sender.request("GET", _target(resource_id))
        return answers.parsed(answer, str(resource_id), MediaResource)

    def update(
        self,
        resource_id: ResourceId,
        *,
        only_unset: bool = False,
        **changes: Unpack[ResourceChanges],
    ) -> MediaResource:
        """Change fields of a resource, or raise `ResourceNotFound`.

        With `only_unset`, fields that already have a value are not changed.
        """
        target = _target(resource_id) + ("?only_unset=true" if only_unset else "")
        answer = self._sender.request("PATCH", target, changes)
        return answers.parsed(answer, str(resource_id), MediaResource)

    def delete(self, resource_id: ResourceId, *, now: bool = False) -> None:
        """Delete a resource now, and its bytes after the grace period.

        With `now`, the bytes are deleted at once, even if the resource is already deleted. Raise
        `ResourceNotFound` or, if the resource is protected, `ResourceProtected`.
        """
        call = Call("DELETE", _target(resource_id) + ("?now=true" if now else ""))
        self._sender.remove(call, str(resource_id), ResourceNotFound)

    def tags(
        self,
        resource_id: ResourceId,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        replace: Iterable[str] | None = None,
    ) -> builtins.list[str]:
        """Add or remove tags of a resource, if any are passed. Return all its tags, sorted.

        The tags in `replace` replace all existing tags, before others are added and removed.
        """
        target = f"{_target(resource_id)}/tags"
        calls: builtins.list[tuple[str, str, Mapping[str, object] | None]] = []
        if replace is not None:
            calls.append(("PUT", target, {"tags": builtins.list(replace)}))
        if added := builtins.list(add):
            calls.append(("POST", target, {"tags": added}))
        if removed := [("tag", tag) for tag in remove]:
            calls.append(("DELETE", f"{target}?{urlencode(removed, quote_via=quote)}", None))
        tags: builtins.list[str] = []
        for method, where, content in calls or [("GET", target, None)]:
            answer = self._sender.request(method, where, content)
            tags = [str(tag) for tag in answers.field(answer, "tags", str(resource_id))]
        return tags

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """Make the server compute missing fields of resources, such as the dominant color.

        `ids` has up to 1,000 resource IDs; None means all resources. The server computes the fields
        in a background job. With `progress`, wait until no field is missing, and call `progress`
        once a second. Return the number of resources that had missing fields at the beginning.
        """
        content = {} if ids is None else {"ids": [str(resource_id) for resource_id in ids]}
        total = waiting = _count(self._sender.request("POST", f"{_RESOURCES}/heal", content))
        while progress is not None:
            progress(HealingProgress(total, waiting))
            if not waiting:
                break
            time.sleep(_POLL_S)
            waiting = _count(self._sender.request("GET", f"{_RESOURCES}/heal"))
        return total


def _target(resource_id: ResourceId) -> str:
    return f"{_RESOURCES}/" + quote(str(resource_id), safe="")


def _count(answer: Answer) -> int:
    return int(answers.field(answer, "count", "healing"))


def _convert(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
