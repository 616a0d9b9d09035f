"""Selection of the images in a ZIP file: by a prefix, by paths, or by the manifest of a run."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Final, Self
from urllib.parse import quote, urlencode

from stillroom import errors
from stillroom.paths import ImagePath, KeyPrefix, StorageKey
from stillroom.store.auth.grants import Grant
from stillroom.store.http.parameters import (
    EVERY_PATH,
    Parameter,
    Prefix,
    Texts,
    build,
    choice,
    repeatable,
)
from stillroom.store.pages import each_page
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery

RunKeys = Callable[[ImagePath], AsyncGenerator[StorageKey, None]]

MAX_PATHS: Final = 1000
_MAX_PATHS_BYTES: Final = 4096  # total size of all paths in a URL
_MAX_QUERY_BYTES: Final = 7168  # percent-encoded; the server accepts targets of 8 KiB
_LINKS_AT_ONCE: Final = 4
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveParameters:
    """Query parameters of `GET /storage/archive`."""

    prefix: Prefix = EVERY_PATH
    paths: Annotated[
        tuple[ImagePath, ...],
        repeatable("path", "Images. Those that do not exist are omitted.", ImagePath.parse, 1000),
    ] = ()
    run: Annotated[
        ImagePath | None,
        Parameter(ImagePath.parse, {"type": "string"}, "Folder of a published run."),
    ] = None
    sidecars: Annotated[
        str | None,
        choice(
            "captions",
            description="`captions`: adds a text file with the prompt for each image that contains "
            "one.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if bool(self.prefix.text) + bool(self.paths) + (self.run is not None) > 1:
            message = "use only one of prefix, path and run"
            raise errors.InvalidParameter(message, at=("query", "prefix"))

    @property
    def is_exact(self) -> bool:
        """True if the images are listed by name, so that some of them may not exist."""
        return bool(self.paths) or self.run is not None

    def within(self, grant: Grant) -> Self:
        """Limit the prefix to the grant's. Raise `Forbidden` if a path or the run is outside."""
        for path in self.paths:
            grant.require("storage:read", path)
        if self.run is not None:
            grant.require_folder("storage:read", self.run)
        if self.is_exact:
            return self
        return replace(self, prefix=grant.narrow("storage:read", self.prefix))


@dataclass(slots=True, eq=False)
class ArchiveSelection:
    """Selects the images of ZIP files. Signed URLs ("links") may select fewer images.

    Attributes:
        run_keys: Yields the keys in a run's manifest; None if the feature `runs` is off.
    """

    storage: ImageStorage
    max_link_images: int
    run_keys: RunKeys | None = None
    _links: int = 0

    @contextlib.contextmanager
    def link(self) -> Iterator[None]:
        """Context manager: limit parallel signed downloads. May raise `BackendUnavailable`."""
        if self._links >= _LINKS_AT_ONCE:
            message = f"{_LINKS_AT_ONCE} links are being downloaded: try later"
            raise errors.BackendUnavailable(message)
        self._links += 1
        try:
            yield
        finally:
            self._links -= 1

    async def sign(self, grant: Grant, texts: Texts) -> str:
        """Check the query parameters of a URL to sign. Return them as a query string."""
        texts = {name: values for name, values in texts.items() if values}
        parameters = build(ArchiveParameters, texts).within(grant)
        if len(texts.keys() - {"sidecars"}) != 1:
            message = "must have either prefix, paths or run"
            raise errors.InvalidParameter(message, at=("query", "prefix"))
        if "prefix" in texts:
            texts["prefix"] = [parameters.prefix.text]
        query = urlencode(texts, doseq=True, quote_via=quote, safe="/")
        size = sum(len(path.text.encode()) for path in parameters.paths)
        if size > _MAX_PATHS_BYTES or len(query) > _MAX_QUERY_BYTES:
            raise errors.InvalidParameter(
                f"the paths in a URL may have {_MAX_PATHS_BYTES:,} bytes together, and "
                f"{_MAX_QUERY_BYTES:,} percent-encoded: publish a run, or use a prefix",
                at=("query", "path"),
            )
        await self._limited(self._keys(parameters))
        return query

    async def keys(
        self, parameters: ArchiveParameters, *, is_link: bool
    ) -> AsyncGenerator[StorageKey, None]:
        """Return the keys of the images. Raises `ImageNotFound` if none of the images exists.

        The number of images is limited for signed URLs (`is_link`) and for runs.
        """
        keys = self._keys(parameters)
        if is_link or parameters.run is not None:
            keys = iterate(await self._limited(keys))
        async for key in keys:
            with contextlib.suppress(errors.ImageNotFound):
                if parameters.is_exact:
                    await self.storage.stat(key)
                return iterate([key], keys)
        raise errors.ImageNotFound

    def _keys(self, parameters: ArchiveParameters) -> AsyncGenerator[StorageKey, None]:
        if parameters.run is not None:
            if self.run_keys is None:
                raise errors.FeatureOff("this server runs without the feature 'runs'")
            return self.run_keys(parameters.run)
        if parameters.paths:
            texts = sorted({path.text for path in parameters.paths}, key=str.encode)
            return iterate([StorageKey.of_image(ImagePath(text)) for text in texts])
        query = ListQuery(KeyPrefix.of_images(parameters.prefix), limit=_PAGE)
        pages = each_page(self.storage.list, query)
        return (StorageKey(entry) async for page in pages for entry in page.entries)

    async def _limited(self, keys: AsyncGenerator[StorageKey, None]) -> list[StorageKey]:
        limited: list[StorageKey] = []
        async with contextlib.aclosing(keys):
            async for key in keys:
                limited.append(key)
                if len(limited) > self.max_link_images:
                    raise errors.TooLarge(
                        f"a ZIP file by link, or of a run, may have {self.max_link_images} images "
                        "at most: use a longer prefix, or several links"
                    )
        return limited


async def iterate(
    first: Iterable[StorageKey], others: AsyncGenerator[StorageKey, None] | None = None
) -> AsyncGenerator[StorageKey, None]:
    """Yield the keys in `first`, then those in `others`. Close `others` at the end."""
    for key in first:
        yield key
    if others is not None:
        async with contextlib.aclosing(others):
            async for key in others:
                yield key
