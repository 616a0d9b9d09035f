"""Service for upload grants: issue a grant, receive its file, and complete it as an image.

The file is checked like that of a normal save. After a crash at any step, the client can repeat the
completion: the uploaded file remains until the image is saved, its expiration is scheduled and the
response is stored. The id of the grant is stored with the image.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from stillroom import errors
from stillroom.features.grants.completed import CompletedGrants
from stillroom.features.grants.grant import KEPT_S, Upload, UploadGrant
from stillroom.features.grants.probes import Guarantee, UploadProbe
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

# Largest upload that this server saves itself if the bucket has no conditional copies.
MAX_PUT_BYTES: Final = 16 * 1024**2

_SIGNED: Final = ("Content-Type", "Content-Disposition")  # every bucket compares these headers
# Errors after which the uploaded file is deleted.
_REFUSALS: Final = (errors.InvalidUpload, errors.UnsupportedMedia, errors.DigestMismatch)

_count = outcome_counter(
    "upload_grants",
    "Upload grants by event: issued, completed, completed again (repeated), upload refused, or "
    "upload deleted because its grant was not completed for a day (abandoned).",
    "event",
)

log = logging.getLogger("stillroom.media")


@dataclasses.dataclass(frozen=True, slots=True)
class Grants:
    """Operations on upload grants. Several processes may handle the same grant."""

    images: ImageOperations
    uploads: Uploads
    signer: UrlSigner
    url: str  # URL of the operations for grants
    completed: CompletedGrants
    probe: UploadProbe | None  # tests of the bucket; None if clients upload to this server
    require_image: bool
    max_bytes: int
    receiving: set[str] = dataclasses.field(default_factory=set)  # ids of uploads in progress

    async def issue(
        self, grant: UploadGrant, valid_for_s: int
    ) -> tuple[UploadGrant, str, dict[str, str]]:
        """Return a grant with the URL and headers for uploading its file.

        For a bucket, only the headers that it enforces are signed, which the first call tests.
        Raises `TooLarge`, `FeatureOff`, `ConditionUnsupported` or `BackendUnavailable`.
        """
        if grant.size > self.max_bytes:
            raise errors.TooLarge(f"an upload may have {self.max_bytes} bytes at most")
        if self.uploads.unsupported is not None:
            raise errors.FeatureOff(f"this server cannot grant uploads: {self.uploads.unsupported}")
        url, headers = f"{self.url}/{grant.signed(self.signer, Upload)}", grant.headers
        if self.probe is not None:
            guarantees = await self.probe.find_guarantees()
            if grant.size > MAX_PUT_BYTES and not await self._can_copy(grant):
                raise errors.ConditionUnsupported(
                    "the bucket cannot copy on the condition that no image exists, so "
                    f"if_none_match is possible up to {MAX_PUT_BYTES} bytes: leave it out"
                )
            headers[Guarantee.LENGTH.value] = str(grant.size)
            headers = {name: headers[name] for name in headers if name in {*guarantees, *_SIGNED}}
            upload = {name.lower(): value for name, value in headers.items()}
            key = self._upload_key(grant).text
            url = self.probe.store.presigned_url(key, valid_for_s=valid_for_s, upload=upload)
            grant = dataclasses.replace(grant, is_hash_enforced=Guarantee.SHA256 in guarantees)
        _count("issued")
        return grant, url, headers

    async def receive(
        self, upload: Upload, fields: Fields, body: AsyncIterator[bytes]
    ) -> StoredImage:
        """Store a file that is uploaded to this server, durably and outside of the image paths.

        Raises the errors of a save, `GrantExpired`, or `GrantInvalid` for wrong headers.
        """
        if upload.expires_at <= time.time():
            raise errors.GrantExpired
        for name, value in upload.headers.items():
            if fields.get(name.lower()) != value:
                raise errors.GrantInvalid(f"send the header {name} exactly as the grant has it")
        if upload.id in self.receiving:  # otherwise one grant could fill the disk
            message = "the file is being uploaded by another request: try later"
            raise errors.BackendUnavailable(message)
        chunks, rules = _exactly(upload.size, body), SaveRules(upload.size)
        source = DescribedSource(chunks, upload.size, upload.digest, rules=rules)
        absent = Condition(if_none_match=ANY)
        self.receiving.add(upload.id)
        try:
            return await self.images.storage.save(self._upload_key(upload), source, absent)
        except errors.PreconditionFailed:
            message = "the upload is there already: complete its grant"
            raise errors.PreconditionFailed(message) from None
        finally:
            self.receiving.discard(upload.id)

    async def complete(self, grant: UploadGrant) -> dict[str, object]:
        """Save the uploaded file of a grant as an image, and return the fields of `SavedImage`.

        A repetition within 24 hours returns the same result, unless the image was replaced or
        deleted. Raises the errors of a save, `GrantExpired`, `GrantSpent` and `UploadMissing`.
        """
        note_actor(grant.subject)
        if time.time() >= grant.expires_at + KEPT_S:
            raise errors.GrantExpired
        path = ImagePath.parse(grant.path)
        key = StorageKey.of_image(path)
        async with self.completed.hold(grant) as earlier:
            image = await self.uploads.find_saved(key, grant.id)
            if earlier is not None:
                if image is None:
                    raise errors.GrantSpent
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
            raise errors.GrantExpired
        try:
            return await self._save(grant, key)
        except (errors.ImageNotFound, errors.PreconditionFailed) as error:
            # Another machine may have completed the grant in the meantime.
            if (image := await self.uploads.find_saved(key, grant.id)) is not None:
                return image
            if isinstance(error, errors.PreconditionFailed):
                raise
            raise errors.UploadMissing from None
        except _REFUSALS:
            _count("refused")
            await self._delete(grant)
            raise

    async def _save(self, grant: UploadGrant, key: StorageKey) -> StoredImage:
        """Check and save the file like a normal save. The storage copies it if a copy is safe.

        A copy is not safe if the client has declared a SHA-256 that is not verified: between the
        check and the copy, the client could replace the file by one with the same MD5. In this
        case, the server reads the file, and verifies the SHA-256 while saving.
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
                raise errors.UnsupportedMedia(
                    f"the content of the upload is {kind}, but its grant is for "
                    f"{grant.content_type}"
                )
            sha256 = opened.image.sha256 or (grant.digest if grant.is_hash_enforced else None)
            if grant.digest in (None, sha256) and await self._can_copy(grant):
                wanted = dataclasses.replace(
                    opened.image, key=key, content_type=kind, sha256=sha256, save_id=grant.id
                )
                return await self.uploads.save(opened, wanted, grant.condition)
            chunks = opened.chunks(0, grant.size)
            source = DescribedSource(
                chunks, grant.size, grant.digest, rules=rules, save_id=grant.id
            )
            return await self.images.storage.save(key, source, grant.condition)

    async def _can_copy(self, grant: UploadGrant) -> bool:
        if self.probe is None or not grant.create_only:
            return True
        return Guarantee.COPY in await self.probe.find_guarantees()

    def _upload_key(self, upload: Upload) -> StorageKey:
        return StorageKey(self.uploads.prefix + upload.id)

    async def _delete(self, grant: UploadGrant) -> None:
        """Delete an upload. If that fails, `sweep` or the bucket's lifecycle rule deletes it."""
        try:
            await self.uploads.delete(self._upload_key(grant))
        except errors.StillroomError as error:
            log.warning("cannot delete the upload %s now: %s", grant.id, error)

    async def sweep(self, stop: Stopping) -> None:
        """Delete uploads that are a day old. In a bucket, a lifecycle rule deletes them instead."""
        await asyncio.to_thread(self.completed.sweep)
        if self.probe is not None:
            return
        gone = (errors.ImageNotFound, errors.PreconditionFailed)  # another process completed it
        latest_ns, storage = (time.time() - KEPT_S) * 1e9, self.images.storage
        query = ListQuery(KeyPrefix(self.uploads.prefix), limit=1000)
        async for page in each_page(storage.entries, query):
            if stop.is_set():
                return
            for image in page.images:
                if image.modified_ns < latest_ns:
                    with contextlib.suppress(*gone):
                        await storage.delete(image.key, save_id=image.save_id)
                        _count("abandoned")


async def _exactly(size: int, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    received = 0
    async for chunk in body:
        received += len(chunk)
        yield chunk
    if received < size:
        raise _wrong_size(received, size)


def _wrong_size(received: int, size: int) -> errors.InvalidUpload:
    return errors.InvalidUpload(f"the upload has {received} bytes, but its grant is for {size}")
