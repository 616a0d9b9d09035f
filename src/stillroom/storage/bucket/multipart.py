"""One upload in parts: begun, sent part by part, and then either completed or aborted.

R2 wants all parts but the last to be of one size
(https://developers.cloudflare.com/r2/objects/multipart-objects/), so the caller cuts them.
"""

from typing import Final

from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.objectstore import Guard, ObjectStore, Properties, Written

PART_BYTES: Final = 16 * 1024**2
"""Between S3's 5 MiB and 5 GiB; each upload under way holds one part in memory."""

MAX_PARTS: Final = 10_000
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


class MultipartUpload:
    """Parts that wait to become an object.

    Attributes:
        key: Of that object.
        upload_id: As the bucket calls it.
    """

    def __init__(self, store: ObjectStore, key: str, upload_id: str) -> None:
        self.key = key
        self.upload_id = upload_id
        self._store = store
        self._parts: list[str] = []

    @classmethod
    async def begin(
        cls, store: ObjectStore, key: str, properties: Properties, abandoned: AbandonedUploads
    ) -> "MultipartUpload":
        """Begin one; `properties` are those of the object that it will be.

        Raises:
            BackendUnavailable: as its name says.
        """
        try:
            begun = await store.create_upload(key, properties)
        except BaseException:
            abandoned.doubt(key)
            raise
        if begun.doubtful:
            abandoned.doubt(key)
        return cls(store, key, begun.upload_id)

    async def send(self, part: memoryview, sha256: str) -> None:
        """Send the next part.

        Raises:
            BackendUnavailable: as its name says.
        """
        number = len(self._parts) + 1
        sent = await self._store.upload_part(self.key, self.upload_id, number, part, sha256)
        self._parts.append(sent)

    async def complete(
        self, guard: Guard | None, *, deadline: float | None = None, any_refusal: bool = False
    ) -> Written:
        """Make the parts an object; `Refusal.MISSING` may mean that the upload is over.

        Raises:
            BackendUnavailable: as its name says.
        """
        return await self._store.complete_upload(
            self.key,
            self.upload_id,
            self._parts,
            guard=guard,
            deadline=deadline,
            any_refusal=any_refusal,
        )
