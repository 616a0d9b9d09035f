"""Hooks with which features take part in the operations on images. The core needs no hooks."""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Protocol

from stillroom.paths import StorageKey
from stillroom.store.auth.grants import Grant
from stillroom.store.http.fields import Fields
from stillroom.store.http.parameters import Texts
from stillroom.store.http.serving import ImageAnswer
from stillroom.store.values import Condition, OpenedImage, StoredImage

if TYPE_CHECKING:  # commands that call no operation do not import FastAPI
    from fastapi import Response

    from stillroom.store.api.call import Call
    from stillroom.store.api.images import ImageOperations

Finish = Callable[[StoredImage], Awaitable[Mapping[str, object]]]
"""Function that is called after a save. It returns additional members of the JSON response.

If it raises `BackendUnavailable`, the saved image is deleted, since it would otherwise never
expire. An image from an upload grant is kept: the client repeats its request, and an earlier
request may already have reported the image as saved.
"""

Delete = Callable[[StorageKey, Condition], Awaitable[Mapping[str, object] | None]]
"""Function that deletes an image. It may return additional members of the JSON response."""

SelectArchive = Callable[[Grant, Texts], Awaitable[str]]
"""Function that checks the query parameters of a ZIP download, restricts them to the images that
the grant may read, and returns them encoded. It raises `TooLarge` if the images are too many."""


class RequestHeader(NamedTuple):
    """Request header. It is in the OpenAPI document if it has a description."""

    name: str
    description: str
    example: str


class ReadHook(Protocol):
    """Hook that adds parameters (the dataclass `query`) to GET and HEAD requests for images."""

    query: ClassVar[type]

    async def respond(
        self, call: "Call", key: StorageKey, operations: "ImageOperations"
    ) -> "Response | None":
        """Return the response to an authorized request, or None to send the stored image."""


class SaveHook(Protocol):
    """Hook that handles request headers of a save. Only saves with such a header call the hook."""

    @property
    def headers(self) -> tuple[RequestHeader, ...]:
        """Request headers that the hook handles."""

    async def prepare(self, fields: Fields) -> Finish | None:
        """Check the headers before the save. An error means that the image is not saved."""


class EntryHook(Protocol):
    """Hook that adds JSON members to each image in responses to `GET /storage/entries`."""

    async def members(
        self, images: Sequence[StoredImage], deadline: float
    ) -> Mapping[StorageKey, Mapping[str, object]]:
        """Return each image's JSON members. Members unknown at `deadline` (loop time) are null."""


class BodyDelegate(Protocol):
    """Hook that lets a proxy send the bytes of an image."""

    async def delegate(
        self, fields: Fields, answer: ImageAnswer, image: OpenedImage
    ) -> ImageAnswer | None:
        """Return a response whose body a proxy sends, or None. Callers may then close `image`."""


@dataclass(frozen=True)
class Hooks:
    """All hooks of a store, in the order in which they are called."""

    read: tuple[ReadHook, ...] = ()
    save: tuple[SaveHook, ...] = ()
    entries: tuple[EntryHook, ...] = ()
    body: BodyDelegate | None = None
    trash: Delete | None = None  # called to delete an image, unless a client deletes it for good
    archive: SelectArchive | None = None

    @property
    def save_headers(self) -> Sequence[RequestHeader]:
        """Request headers that the save hooks handle."""
        return [header for hook in self.save for header in hook.headers]

    @functools.cached_property
    def save_fields(self) -> frozenset[str]:
        """Lower-case names of the request headers that the save hooks handle."""
        return frozenset(header.name.lower() for header in self.save_headers)

    async def prepare_save(self, fields: Fields) -> Sequence[Finish]:
        """Call the save hooks, and return the functions to call after the save."""
        prepared = [await hook.prepare(fields) for hook in self.save]
        return [finish for finish in prepared if finish is not None]

    def __add__(self, other: "Hooks") -> "Hooks":
        """Combine two sets of hooks. `body`, `trash` and `archive` must not be set in both."""
        return Hooks(
            (*self.read, *other.read),
            (*self.save, *other.save),
            (*self.entries, *other.entries),
            self.body or other.body,
            self.trash or other.trash,
            self.archive or other.archive,
        )


NO_HOOKS: Final = Hooks()
