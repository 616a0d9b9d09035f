"""Upload grants: they are issued, their files are received, and completed as images.

An upload is checked as a save is, and becomes an image. A crash after any step leaves a state from
which a repetition continues: the upload remains until the image is saved, its expiration is
scheduled and the response is stored. The image contains the id of its grant.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from stillroom.errors import (
    BackendUnavailable,
    ConditionUnsupported,
    DigestMismatch,
    FeatureOff,
    GrantExpired,
    GrantInvalid,
    GrantSpent,
    ImageNotFound,
    InvalidUpload,
    PreconditionFailed,
    StillroomError,
    TooLarge,
    UnsupportedMedia,
    UploadMissing,
)
from stillroom.features.grants.completed import CompletedGrants
from stillroom.features.grants.grant import KEPT_S, Upload, UploadGrant
from stillroom.features.grants.probes import Kept, UploadProbe
from stillroom.paths import ImagePath, KeyPrefix, StorageKey
from stillroom.store.api.images import ImageOperations
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.background import Stopping
from stillroom.store.causes import note_actor
from stillroom.store.http.fields import Fields
from stillroom.store.pages import each_page
from stillroom.store.sources import DescribedSource
from stillroom.store.telemetry.metrics import outcome_counter
from stillroom.store.upload_checks import UploadChecks
from stillroom.store.uploads import PEEKED_BYTES, Uploads
from stillroom.store.values import ANY, Condition, ListQuery, SaveRules, StoredImage

MAX_PUT_BYTES: Final = 16 * 1024**2
"""Largest upload that this server saves itself if the bucket has no conditional copies."""

_SIGNED: Final = ("Content-Type", "Content-Disposition")  # every bucket compares these headers
_REFUSALS: Final = (InvalidUpload, UnsupportedMedia, DigestMismatch)  # the upload is deleted

_count = outcome_counter(
    "upload_grants",
    "Upload grants by event: issued, completed, completed again (repeated), upload refused, or "
    "upload deleted because its grant was not completed for a day (abandoned).",
    "event",
)

log = logging.getLogger("stillroom.media")


@dataclasses.dataclass(frozen=True, slots=True)
class Grants:
    """Upload grants of one store. Several processes may handle the same grant."""

    images: ImageOperations
    uploads: Uploads
    signer: UrlSigner
    url: str  # URL of the operations for grants
    completed: CompletedGrants
    probe: UploadProbe | None  # tests of the bucket; None if clients upload to this server
    require_image: bool
    max_bytes: int
    receiving: set[str] = dataclasses.field(default_factory=set)  # ids of uploads under way

    async def issue(
        self, grant: UploadGrant, valid_for_s: int
    ) -> tuple[UploadGrant, str, dict[str, str]]:
        """Return a grant with the URL and headers of its upload.

        For a bucket, only the headers that the bucket enforces are signed. The first call tests
        which these are. Raises `TooLarge`, `FeatureOff`, `ConditionUnsupported` or
        `BackendUnavailable`.
        """
        if grant.size > self.max_bytes:
            raise TooLarge(f"an upload may have {self.max_bytes} bytes at most")
        if self.uploads.unsupported is not None:
            raise FeatureOff(f"this server cannot grant uploads: {self.uploads.unsupported}")
        url, headers = f"{self.url}/{grant.signed(self.signer, Upload)}", grant.headers
        if self.probe is not None:
            kept = await self.probe.find_kept()
            if grant.size > MAX_PUT_BYTES and not await self._can_copy(grant):
                raise ConditionUnsupported(
                    "the bucket cannot copy on the condition that no image exists, so "
                    f"if_none_match is possible up to {MAX_PUT_BYTES} bytes: leave it out"
                )
            headers[Kept.LENGTH.value] = str(grant.size)
            headers = {name: headers[name] for name in headers if name in {*kept, *_SIGNED}}
            upload = {name.lower(): value for name, value in headers.items()}
            key = self._upload_key(grant).text
            url = self.probe.store.presigned_url(key, valid_for_s=valid_for_s, upload=upload)
            grant = dataclasses.replace(grant, is_hash_enforced=Kept.SHA256 in kept)
        _count("issued")
        return grant, url, headers

    async def receive(
        self, upload: Upload, fields: Fields, body: AsyncIterator[bytes]
    ) -> StoredImage:
        """Store an upload to this server durably, as an image under a key that no path has.

        Raises the errors of a save, `GrantExpired`, and `GrantInvalid` for other headers.
        """
        if upload.expires_at <= time.time():
            raise GrantExpired
        for name, value in upload.headers.items():
            if fields.get(name.lower()) != value:
                raise GrantInvalid(f"send the header {name} exactly as the grant has it")
        if upload.id in self.receiving:  # otherwise one grant could fill the disk
            raise BackendUnavailable("the file is being uploaded by another request: try later")
        chunks, rules = _exactly(upload.size, body), SaveRules(upload.size)
        source = DescribedSource(chunks, upload.size, upload.digest, rules=rules)
        absent = Condition(if_none_match=ANY)
        self.receiving.add(upload.id)
        try:
            return await self.images.storage.save(self._upload_key(upload), source, absent)
        except PreconditionFailed:
            raise PreconditionFailed("the upload is there already: complete its grant") from None
        finally:
            self.receiving.discard(upload.id)

    async def complete(self, grant: UploadGrant) -> dict[str, object]:
        """Save the upload of a grant, and return the fields of `SavedImage`.

        A repetition returns the same for 24 hours, if no other image was saved since. Raises the
        errors of a save, `GrantExpired`, `GrantSpent` and `UploadMissing`.
        """
        note_actor(grant.subject)
        if time.time() >= grant.expires_at + KEPT_S:
            raise GrantExpired
        path = ImagePath.parse(grant.path)
        key = StorageKey.of_image(path)
        async with self.completed.hold(grant) as earlier:
            image = await self.uploads.find_saved(key, grant.id)
            if earlier is not None:
                if image is None:
                    raise GrantSpent
                saved = earlier
                _count("repeated")
            else:
                fields, hooks = grant.save_fields, self.images.hooks
                finishes = await hooks.prepare_save(fields) if fields else ()
                image = image or await self._save_once(grant, key)
                saved = self.images.saved_json(image, path)
                for finish in finishes:
                    saved |= await finish(image)
                await asyncio.to_thread(self.completed.add, grant, saved)
                _count("completed")
            await self._delete(grant)
        return saved

    async def _save_once(self, grant: UploadGrant, key: StorageKey) -> StoredImage:
        if time.time() >= grant.expires_at:
            raise GrantExpired
        try:
            return await self._save(grant, key)
        except (ImageNotFound, PreconditionFailed) as error:
            # Another machine may have completed the grant in the meantime.
            if (image := await self.uploads.find_saved(key, grant.id)) is not None:
                return image
            if isinstance(error, PreconditionFailed):
                raise
            raise UploadMissing from None
        except _REFUSALS:
            _count("refused")
            await self._delete(grant)
            raise

    async def _save(self, grant: UploadGrant, key: StorageKey) -> StoredImage:
        """Check the content as a save does, and save it without its transfer if that is safe.

        The SHA-256 is set only if the client cannot choose it. If it was declared, but not checked
        so far, the file is read and saved at once: a client could replace it after its check by one
        with the same MD5, which a copy cannot tell apart.
        """
        rules = SaveRules(grant.size, require_image=self.require_image)
        with contextlib.closing(await self.uploads.open(self._upload_key(grant))) as opened:
            if opened.image.size != grant.size:
                raise _wrong_size(opened.image.size, grant.size)
            checks = UploadChecks(rules)
            async for chunk in opened.chunks(0, min(grant.size, PEEKED_BYTES)):
                checks.count(chunk)
            kind = checks.finish(None).content_type
            if grant.content_type not in (None, kind):
                raise UnsupportedMedia(
                    f"the content of the upload is {kind}, but its grant is for "
                    f"{grant.content_type}"
                )
            sha256 = opened.image.sha256 or (grant.digest if grant.is_hash_enforced else None)
            if grant.digest in (None, sha256) and await self._can_copy(grant):
                wanted = dataclasses.replace(
                    opened.image, key=key, content_type=kind, sha256=sha256, save_id=grant.id
                )
                return await self.uploads.save(opened, wanted, grant.condition)
            source = DescribedSource(
                opened.chunks(0, grant.size),
                grant.size,
                grant.digest,
                rules=rules,
                save_id=grant.id,
            )
            return await self.images.storage.save(key, source, grant.condition)

    async def _can_copy(self, grant: UploadGrant) -> bool:
        """Return whether the storage can save an upload itself under the grant's condition."""
        return (
            self.probe is None or not grant.create_only or Kept.COPY in await self.probe.find_kept()
        )

    def _upload_key(self, upload: Upload) -> StorageKey:
        return StorageKey(self.uploads.prefix + upload.id)

    async def _delete(self, grant: UploadGrant) -> None:
        """Delete an upload. After an error, the sweeper or the bucket's lifecycle rule does it."""
        try:
            await self.uploads.delete(self._upload_key(grant))
        except StillroomError as error:
            log.warning("cannot delete the upload %s now: %s", grant.id, error)

    async def sweep(self, stop: Stopping) -> None:
        """Delete uploads that have not been completed for a day. A bucket has a lifecycle rule."""
        await asyncio.to_thread(self.completed.sweep)
        if self.probe is not None:
            return
        latest_ns, storage = (time.time() - KEPT_S) * 1e9, self.images.storage
        query = ListQuery(KeyPrefix(self.uploads.prefix), limit=1000)
        async for page in each_page(storage.entries, query):
            if stop.is_set():
                return
            for image in page.images:
                if image.modified_ns < latest_ns:
                    with contextlib.suppress(ImageNotFound, PreconditionFailed):  # just completed
                        await storage.delete(image.key, save_id=image.save_id)
                        _count("abandoned")


async def _exactly(size: int, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    received = 0
    async for chunk in body:
        received += len(chunk)
        yield chunk
    if received < size:
        raise _wrong_size(received, size)


def _wrong_size(received: int, size: int) -> InvalidUpload:
    return InvalidUpload(f"the upload has {received} bytes, but its grant is for {size}")
