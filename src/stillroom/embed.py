"""The five operations for a FastAPI app of your own.

from stillroom.embed import create_router
app.include_router(create_router("stillroom-data"), prefix="/api/v1")
"""

import os
from pathlib import Path
from typing import Literal

from fastapi import APIRouter

from stillroom.api.authorize import Authorize
from stillroom.api.copies import Copies, copies_router
from stillroom.api.deletions import Deletions, deletions_router
from stillroom.api.entries import EntryListing, entries_router
from stillroom.api.images import ImageOperations, images_router
from stillroom.api.signed_urls import UrlSigning, signed_urls_router
from stillroom.auth.keys import SharedSecrets
from stillroom.auth.secret import load_or_make_secret
from stillroom.auth.signed_urls import UrlSigner
from stillroom.auth.tokens import TokenVerifier
from stillroom.derived.images import DerivedConfig, DerivedImages
from stillroom.errors import ConfigurationError
from stillroom.storage.choose import DiskConfig, open_storage
from stillroom.storage.values import SaveRules
from stillroom.variables import BUCKET


def create_router(
    data_dir: str | Path,
    *,
    storage: Literal["disk"] | None = None,
    jwt_secret: str | None = None,
    authorize: Authorize | None = None,
    public_url: str = "http://127.0.0.1:8000/api/v1/storage/images",
    max_upload_bytes: int = 100 * 1024**2,
    require_image: bool = False,
    min_free_bytes: int = 256 * 1024**2,
    public_read: bool = False,
    derived_cache_bytes: int = 1024**3,
) -> APIRouter:
    """A router with the five operations, its storage opened; the process's end closes it.

    Args:
        data_dir: Where the images go. Several processes may share it.
        storage: `disk` says that the disk is meant also where the variables of a bucket are set.
        jwt_secret: What tokens are signed with, 32 bytes or more; without it one is made
            in `data_dir`, and `stillroom token --data-dir …` mints tokens for it. It signs URLs
            as well.
        authorize: Instead of tokens of ours: takes the `Authorization` field (or None) and
            returns a `stillroom.auth.grants.Grant`, or raises `stillroom.errors.Unauthenticated`.
            A plain function runs on the event loop and must be quick; an async one may wait.
            URLs are then signed only if there is a `jwt_secret` too.
        public_url: What `/<path>` is put behind to make an image's public URL.
        max_upload_bytes: Larger images are refused as soon as that is known.
        require_image: Refuse what is not an image by its content.
        min_free_bytes: Refuse saves that leave less room on the disk.
        public_read: Images can be read without a token by their path. `authorize` is then
            asked only about requests that have an `Authorization` field.
        derived_cache_bytes: What smaller pictures of the images may take in `data_dir`. They are
            made in processes of their own, started when they are first needed.

    Raises:
        ConfigurationError: the directory or the secret cannot be used; or `R2_ENDPOINT_URL` or
            `R2_ACCESS_KEY_ID` is set, and the disk may not be what is meant.
    """
    if storage is None and (named := [name for name in BUCKET if os.environ.get(name, "").strip()]):
        raise ConfigurationError(
            f"{' and '.join(named)} is set, but this router keeps images on the disk only: run "
            '`stillroom serve` for the bucket, or say create_router(…, storage="disk")'
        )
    root = Path(data_dir)
    if authorize is None:
        jwt_secret = jwt_secret or load_or_make_secret(root / ".stillroom" / "secret")[0]
        authorize = TokenVerifier(SharedSecrets([jwt_secret])).verify
    signer = UrlSigner([jwt_secret]) if jwt_secret else None
    opened = open_storage(
        DiskConfig(root, min_free_bytes=min_free_bytes),
        SaveRules(max_bytes=max_upload_bytes, require_image=require_image),
    )

    public_url = public_url.rstrip("/")
    operations = ImageOperations(
        storage=opened,
        authorize=authorize,
        public_url=public_url,
        max_upload_bytes=max_upload_bytes,
        signer=signer,
        public_read=public_read,
        derived=DerivedImages(
            DerivedConfig(
                root / ".stillroom" / "derived",
                cache_bytes=derived_cache_bytes,
                min_free_bytes=min_free_bytes,
            )
        ),
    )
    router = APIRouter()
    router.include_router(images_router(operations))
    router.include_router(entries_router(EntryListing(opened, authorize)))
    router.include_router(deletions_router(Deletions(opened, authorize)))
    router.include_router(copies_router(Copies(opened, authorize, public_url)))
    if signer is not None:
        router.include_router(signed_urls_router(UrlSigning(authorize, signer, public_url)))
    return router
