"""Uploads in a bucket: objects below `temp/`, which become images by a copy within the bucket.

Clients create these objects with presigned URLs. The server checks one version (an ETag), and
copies only this one. The copy gets new properties instead of those that the client has sent.

A deleted image is copied to `trash/`, and is copied back if it is restored. If a bucket ignores
conditions of copies, an image that is saved during a restoration to its path may be replaced.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from stillroom import errors
from stillroom.paths import StorageKey
from stillroom.store import causes
from stillroom.store.bucket.conditions import IF_ABSENT
from stillroom.store.bucket.objects import ObjectImage, fetch_facts, image_of, properties_of
from stillroom.store.bucket.upload import UploadContext
from stillroom.store.capabilities import ChangeObserver
from stillroom.store.objectstore import (
    DEADLINE_S,
    ChangeResult,
    Guard,
    Refusal,
    TakesPresignedUploads,
)
from stillroom.store.uploads import PEEKED_BYTES
from stillroom.store.values import ANY, UNCONDITIONAL, Condition, OpenedImage, StoredImage

_COPIED_BYTES_PER_S: Final = 32 * 1024**2  # assumed minimum speed of a copy within the bucket


class BucketUploads:
    """`Uploads` in a bucket. The save id of an image made from an upload is the id of its grant."""

    prefix: ClassVar[str] = "temp/"
    trash_prefix: ClassVar[str] = "trash/"

    def __init__(
        self,
        context: UploadContext,
        changes: ChangeObserver,
        delete_image: Callable[..., Awaitable[None]],
    ) -> None:
        """Use `delete_image` (the method `delete` of the storage) to delete images."""
        self._context = context
        self._changes = changes
        self._delete_image = delete_image
        self.store: TakesPresignedUploads | None = None
        self.unsupported: str | None = "the driver of the bucket does not presign uploads"
        if isinstance(context.store, TakesPresignedUploads):
            self.store, self.unsupported = context.store, None

    async def open(self, key: StorageKey) -> ObjectImage:
        """Read the metadata and the first bytes in one request. The client's SHA-256 is ignored."""
        assert self.store is not None  # noqa: S101  (see `unsupported`)
        peeked = await self.store.peek(key.text, PEEKED_BYTES)
        if peeked is None:
            raise errors.ImageNotFound
        head, start = peeked
        return ObjectImage(self.store, dataclasses.replace(image_of(key, head), sha256=None), start)

    async def find_saved(self, key: StorageKey, grant_id: str) -> StoredImage | None:
        """Return the image if its save id is the id of the grant (one HEAD request)."""
        with contextlib.suppress(errors.ImageNotFound):
            image = await fetch_facts(self._context.store, key, deadline=None)
            return image if image.save_id == grant_id else None
        return None

    async def save(
        self, opened: OpenedImage, target: StoredImage, condition: Condition
    ) -> StoredImage:
        """Copy the object if it still has the same ETag."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_S + _copy_s(target)
        guard, key = IF_ABSENT if condition.create_only else None, target.key.text
        async with self._context.locks.hold(key, deadline=deadline):
            written = await self.copy(opened.image, target, guard, deadline)
        if isinstance(written, StoredImage):
            return written
        if written.refusal is Refusal.MISSING:
            raise errors.ImageNotFound
        if written.refusal is Refusal.UNSUPPORTED:
            raise errors.ConditionUnsupported("the bucket refuses conditional copies")
        if guard is not None:
            with contextlib.suppress(errors.ImageNotFound):
                image = await fetch_facts(self._context.store, target.key, deadline=deadline)
                if image.save_id != target.save_id:
                    raise errors.PreconditionFailed
                # An earlier attempt, which got no response, has copied the object.
                self._changes.copied(image, opened.image, causes.current.get())
                return image
        raise errors.BackendUnavailable("the upload was replaced while it was checked: try again")

    async def copy(
        self, source: StoredImage, target: StoredImage, guard: Guard | None, deadline: float
    ) -> StoredImage | ChangeResult:
        """Copy exactly this version of an object. Return the copy, or the bucket's refusal."""
        key, existence = target.key.text, self._context.existence
        cache_control = self._context.cache_control(target.key)
        properties = properties_of(
            target.content_type, target.sha256, save_id=target.save_id, cache_control=cache_control
        )
        written = await self._context.store.copy(
            source.key.text, source.etag, key, properties,
            guard=guard, deadline=deadline, any_refusal=guard is not None,
        )  # fmt: skip
        if written.etag is None:
            return written
        existence.note(key, target.content_type, existence.moment)
        image = dataclasses.replace(target, etag=written.etag, modified_ns=time.time_ns())
        self._changes.copied(image, source, causes.current.get())
        return image

    async def discard(self, image: StoredImage, place: StorageKey) -> None:
        """Copy the object to `place`. Then delete the original unless it was replaced.

        Without conditional deletions, a version that is saved after the check is deleted, too.
        """
        deadline = asyncio.get_running_loop().time() + DEADLINE_S + _copy_s(image)
        copied = await self.copy(image, dataclasses.replace(image, key=place), None, deadline)
        if not isinstance(copied, StoredImage):
            raise (
                errors.ImageNotFound
                if copied.refusal is Refusal.MISSING
                else errors.PreconditionFailed
            )
        with contextlib.suppress(errors.ImageNotFound):  # another request has just deleted it
            await self._delete_image(image.key, save_id=image.save_id)

    async def restore(self, opened: OpenedImage, target: StoredImage) -> StoredImage:
        """Check that no other image exists, then copy the object (conditionally, if supported)."""
        with contextlib.suppress(errors.ImageNotFound):
            existing = await fetch_facts(self._context.store, target.key, deadline=None)
            if existing.save_id != target.save_id:
                raise errors.PreconditionFailed
            return existing  # restored before a crash
        try:
            return await self.save(opened, target, Condition(if_none_match=ANY))
        except errors.ConditionUnsupported:
            return await self.save(opened, target, UNCONDITIONAL)

    async def delete(self, key: StorageKey) -> None:
        """Delete the object in one request."""
        await self._context.store.delete(key.text)


def _copy_s(image: StoredImage) -> float:
    return image.size / _COPIED_BYTES_PER_S
