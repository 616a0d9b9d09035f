"""Multipart upload: it is created, sent part by part, and then completed or aborted.

The caller splits the image. R2 requires that all parts except the last have the same size:
https://developers.cloudflare.com/r2/objects/multipart-objects/
"""

from typing import Final

from stillroom.store.bucket.abandoned_uploads import AbandonedUploads
from stillroom.store.objectstore import ChangeResult, Guard, ObjectStore, Properties

PART_BYTES: Final = 16 * 1024**2  # S3 allows 5 MiB to 5 GiB. Each upload keeps one part in memory.
MAX_PARTS: Final = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


class MultipartUpload:
    """A multipart upload. Its methods raise `BackendUnavailable` if the bucket fails."""

    def __init__(self, store: ObjectStore, key: str, upload_id: str) -> None:
        self.key = key
        self.upload_id = upload_id
        self._store = store
        self._parts: list[str] = []

    @classmethod
    async def begin(
        cls,
        store: ObjectStore,
        key: str,
        properties: Properties,
        abandoned: AbandonedUploads,
        *,
        is_shared: bool = True,
    ) -> "MultipartUpload":
        """Create an upload. `is_shared` is False if no other process uploads to this key."""
        try:
            created = await store.create_upload(key, properties)
        except BaseException:
            abandoned.abort_unknown(key, is_shared=is_shared)
            raise
        if created.doubtful:
            abandoned.abort_unknown(key, is_shared=is_shared)
        return cls(store, key, created.upload_id)

    async def send(self, part: memoryview, sha256: str) -> None:
        """Send the next part."""
        number = len(self._parts) + 1
        part_etag = await self._store.upload_part(self.key, self.upload_id, number, part, sha256)
        self._parts.append(part_etag)

    async def complete(
        self, guard: Guard | None, *, deadline: float | None = None, any_refusal: bool = False
    ) -> ChangeResult:
        """Combine the parts into an object; see `ObjectStore.complete_upload`."""
        key, upload_id, parts = self.key, self.upload_id, self._parts
        return await self._store.complete_upload(
            key, upload_id, parts, guard=guard, deadline=deadline, any_refusal=any_refusal
        )
