"""Thumbnail feature: image URLs with thumbnail parameters return smaller versions of images."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from fastapi import Response

from stillroom.errors import ImageNotFound, InvalidPath, UnsupportedMedia
from stillroom.features.pictures import confinement
from stillroom.features.pictures.derivation import Derivation, parse_derivation
from stillroom.features.pictures.images import DerivedImages
from stillroom.features.pictures.settings import PicturesSettings
from stillroom.paths import StorageKey, path_of_key
from stillroom.store.api.call import Call
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.responses import ImageResponse, image_response
from stillroom.store.content_type import DEFAULT, is_video
from stillroom.store.feature import Feature, Store
from stillroom.store.hooks import Hooks
from stillroom.store.http import serving
from stillroom.store.port import ImageStorage
from stillroom.store.values import OpenedImage, RemoteImage
from stillroom.wire.thumbnails import POSTER_SUFFIX


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Hook of image requests that responds with a thumbnail if the URL asks for one."""

    derived: DerivedImages
    query: ClassVar[type] = Derivation

    async def respond(
        self, call: Call, key: StorageKey, operations: ImageOperations
    ) -> Response | None:
        """Return a thumbnail or a CDN redirect, or None if the URL has no thumbnail parameters."""
        derivation = parse_derivation(call.raw_query)
        if derivation is None:
            return None
        derived, method, fields = self.derived, call.request.method, call.fields
        storage, cache_control = operations.storage, operations.cache_control
        location = derived.place(key, derivation)
        if location is not None:
            # Check that the image exists before redirecting, since a CDN would cache its own 404.
            content_type = await _content_type(storage, method, key)
            frame = derived.place_of_frame(key, derivation) if is_video(content_type) else None
            return _cdn_response(method, frame or location)
        original = await storage.open(key)
        if is_video(original.image.content_type):
            original.close()
            frame = derived.place_of_frame(key, derivation)
            if frame is not None:
                return _cdn_response(method, frame)
            original = await _open_poster(storage, key)
        with contextlib.ExitStack() as closing:
            closing.callback(original.close)
            facts = await derived.describe(original, derivation)
            if serving.has_current_copy(fields, facts):
                answer = serving.answer_image(method, fields, facts, cache_control=cache_control)
                return ImageResponse(answer)
            closing.pop_all()  # `derive` closes the original
        picture = await derived.derive(original, derivation)
        return await image_response(fields, picture, cache_control, method=method)


async def _content_type(storage: ImageStorage, method: str, key: StorageKey) -> str:
    if method == "HEAD":
        return (await storage.stat(key)).content_type
    location = await storage.locate(key)
    return (isinstance(location, RemoteImage) and location.content_type) or ""


async def _open_poster(storage: ImageStorage, key: StorageKey) -> OpenedImage:
    """Open the poster (still image) next to a video, since the server never decodes videos."""
    try:
        path = path_of_key(key.text + POSTER_SUFFIX, at=("path", "path"))
        return await storage.open(StorageKey.of_image(path))
    except (ImageNotFound, InvalidPath):
        raise UnsupportedMedia(
            "the thumbnail of a video is made from a poster image, and this video has none: "
            "save one as <path of the video>" + POSTER_SUFFIX
        ) from None


def _cdn_response(method: str, location: RemoteImage) -> Response:
    if method == "GET":
        return ImageResponse(serving.answer_redirect(location))
    return ImageResponse(serving.answer_cdn_head(location.content_type or DEFAULT))


class PicturesFeature(Feature):
    """Thumbnails of images."""

    def __init__(self, store: Store) -> None:
        self.derived = DerivedImages(store.settings.section(PicturesSettings).derived)
        if store.is_counted:
            from stillroom.features.pictures.metrics import count_picture, report_confinement

            report_confinement()
            self.derived.report = count_picture

    def hooks(self) -> Hooks:
        """Return the hook that responds to image requests with thumbnail parameters."""
        return Hooks(read=(Thumbnails(self.derived),))

    def warnings(self) -> Iterable[str]:
        """Return a warning for each protection of decoding processes that this machine lacks."""
        return [f"{gap}: {remedy}" for gap, remedy in confinement.gaps().values()]

    async def close(self) -> None:
        """End the decoding processes."""
        await self.derived.close()
