"""Construction of the API's router with the operations of the core and of all features."""

import dataclasses
from collections.abc import Callable
from functools import reduce
from operator import add

from fastapi import APIRouter, Request

from stillroom.assembly import FEATURES, Parts
from stillroom.speed.capabilities import PinsNames
from stillroom.speed.proxy_sendfile import ProxySendfile
from stillroom.store.api.copies import Copies
from stillroom.store.api.deletions import Deletions
from stillroom.store.api.entries import EntryListing
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.missing_features import OffHook, off_router
from stillroom.store.api.routes import operation_router
from stillroom.store.api.signed_urls import UrlSigning
from stillroom.store.auth.grants import Grant
from stillroom.store.hooks import NO_HOOKS, Hooks


def stillroom_router(
    parts: Parts, *, on_save: Callable[[Request], None] | None = None
) -> APIRouter:
    """Create the router with all operations. `on_save` is called for each save."""
    return _router(parts, dataclasses.replace(image_operations(parts), on_save=on_save))


def trusted_router(parts: Parts) -> APIRouter:
    """Create a router for calls within this process, with all permissions and no redirects."""
    parts = dataclasses.replace(parts, authorize=lambda _: Grant.everything(), proxy_key=None)
    return _router(parts, dataclasses.replace(image_operations(parts), redirects=False))


def _router(parts: Parts, images: ImageOperations) -> APIRouter:
    signing = UrlSigning(
        parts.authorize,
        parts.signer,
        parts.signed_images_url,
        parts.store.api_url,
        images.hooks.archive,
    )
    routes: list[tuple[str, object]] = [
        ("/storage/images", images),
        ("/storage/entries", EntryListing(images)),
        ("/storage/delete", Deletions(images)),
        ("/storage/copy", Copies(images)),
        ("/storage/signed-urls", signing),
    ]
    for feature in parts.features:
        routes += feature.routes(images)
    routes.sort(key=lambda route: route[0].startswith("/media"))  # the order in the documentation
    router = APIRouter()
    for prefix, operations in routes:
        tag = "Media" if prefix.startswith("/media") else "Storage"
        router.include_router(operation_router(prefix, operations, tag=tag))
    for line in FEATURES:
        if line.name in parts.store.off:
            reason = parts.store.off[line.name]
            for prefix in line.prefixes:
                router.include_router(off_router(prefix, line.name, reason, images.authorize))
    return router


def image_operations(parts: Parts) -> ImageOperations:
    """Create the operations on images. The server's fast path uses them, too."""
    return ImageOperations(
        storage=parts.storage,
        authorize=parts.authorize,
        public_url=parts.images_url,
        max_upload_bytes=parts.settings.max_upload_bytes,
        signer=parts.signer,
        signed_url=parts.signed_images_url,
        public_read=parts.settings.public_read,
        hooks=_hooks(parts),
    )


def _hooks(parts: Parts) -> Hooks:
    hooks = reduce(add, (feature.hooks() for feature in parts.features), NO_HOOKS)
    for line in FEATURES:
        if line.name in parts.store.off:
            off = OffHook(line.name, parts.store.off[line.name], line.headers, line.parameters)
            hooks += Hooks(read=(off,), save=(off,))
    if parts.proxy_key is not None and isinstance(parts.storage, PinsNames):
        hooks += Hooks(body=ProxySendfile(parts.storage, parts.proxy_key))
    return hooks
