"""`create_router`: the operations on images for a FastAPI app of your own.

from stillroom.embed import create_router
app.include_router(create_router("stillroom-data"), prefix="/api/v1")
"""

import os
from pathlib import Path
from typing import Literal

from fastapi import APIRouter

from stillroom.assembly import assemble
from stillroom.auth.grants import Authorize
from stillroom.errors import ConfigurationError
from stillroom.router import stillroom_router
from stillroom.settings import Settings
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
    """A router with the operations on images, its storage opened; the process's end closes it.

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
    settings = Settings.of_values(
        data_dir=Path(data_dir),
        jwt_secret=jwt_secret or None,
        max_upload_bytes=max_upload_bytes,
        require_image=require_image,
        min_free_bytes=min_free_bytes,
        public_read=public_read,
        derived_cache_bytes=derived_cache_bytes,
    )
    parts = assemble(
        settings,
        authorize=authorize,
        images_url=public_url.rstrip("/"),
        with_library=False,
    )
    return stillroom_router(parts)
