"""Thumbnail feature: smaller versions of images, made on demand."""

from collections.abc import Iterable

from stillroom.features.pictures import confinement
from stillroom.features.pictures.images import DerivedImages
from stillroom.features.pictures.operation import Thumbnails
from stillroom.features.pictures.settings import PictureSettings
from stillroom.store.feature import Feature, Store
from stillroom.store.hooks import Hooks


class PicturesFeature(Feature):
    """Thumbnails of images, and the processes that decode images."""

    def __init__(self, store: Store) -> None:
        """Prepare the cache and the decoders, which start on demand."""
        report = lambda _: None  # noqa: E731  (replaced in a server)
        if store.is_counted:
            from stillroom.features.pictures.metrics import count_picture, report_confinement

            report_confinement()
            report = count_picture
        self.derived = DerivedImages(store.settings.section(PictureSettings).derived, report=report)

    def hooks(self) -> Hooks:
        """Return the hook that responds to image requests with thumbnail parameters."""
        return Hooks(read=(Thumbnails(self.derived),))

    def warnings(self) -> Iterable[str]:
        """Return a warning for each protection of decoding processes that this machine lacks."""
        return [f"{gap}: {remedy}" for gap, remedy in confinement.gaps()]

    async def close(self) -> None:
        """Stop the decoders."""
        await self.derived.close()
