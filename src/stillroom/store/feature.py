"""Features: optional capabilities that hook into a store. `stillroom.assembly` opens them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from stillroom.errors import ConfigurationError
from stillroom.store.auth.grants import Authorize
from stillroom.store.background import Job
from stillroom.store.capabilities import ChangeRelay
from stillroom.store.hooks import NO_HOOKS, Hooks
from stillroom.store.port import ImageStorage
from stillroom.store.settings import Settings

if TYPE_CHECKING:
    from fastapi import APIRouter

    from stillroom.store.api.images import ImageOperations

F = TypeVar("F", bound="Feature")

_IMAGES: Final = "/storage/images"
_INDEXED_WITHIN_S: Final = 10.0  # at the end of a command; opening the database takes a second


@dataclass(frozen=True, slots=True)
class Store:
    """Settings, open storage and open features of one process."""

    settings: Settings
    storage: ImageStorage
    changes: ChangeRelay
    images_url: str | None = None  # of a host application; None: use the URL in the settings
    is_counted: bool = False  # True in a process whose metrics are collected
    off: Mapping[str, str] = field(default_factory=dict)  # features that are off, with the reason
    features: "dict[str, Feature]" = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        """Base URL of the API for clients."""
        url = self.images_url or ""
        if not url.endswith(_IMAGES):
            url = self.settings.api_images_url
        return url.removesuffix(_IMAGES)

    def find(self, kind: type[F]) -> F | None:
        """Return the open feature of this class, or None if it is off."""
        matches = (feature for feature in self.features.values() if isinstance(feature, kind))
        return next(matches, None)

    def need(self, kind: type[F]) -> F:
        """Return the open feature of this class. Raise `ConfigurationError` if it is off."""
        feature = self.find(kind)
        if feature is None:
            name = kind.__module__.split(".")[2]
            raise ConfigurationError(f"the feature {name!r} is off: {self.off.get(name, name)}")
        return feature

    @contextlib.asynccontextmanager
    async def indexing(self) -> AsyncIterator[None]:
        """Context manager that indexes changes made in the block, in processes without a server."""
        async with contextlib.AsyncExitStack() as stack:
            for feature in self.features.values():
                indexing = feature.indexing(stop_within_s=_INDEXED_WITHIN_S)
                await stack.enter_async_context(indexing)
            yield


class Feature:
    """Base class of features. Each method returns what the feature adds; by default, nothing."""

    database_kind: str | None = None
    """Kind of the database, for metrics, if this feature opens one."""

    def __init__(self, store: Store) -> None:
        """Open the feature. Raise `ConfigurationError` if its settings are invalid."""

    def ready(self, store: Store) -> None:
        """Finish the setup. Called once, when all features of the store are open."""

    def hooks(self) -> Hooks:
        """Return the hooks into the operations on images."""
        return NO_HOOKS

    def routes(self, images: "ImageOperations") -> Iterable[tuple[str, object]]:
        """Return URL prefixes of the API, each with an object whose methods handle the requests."""
        del images
        return ()

    def pages(
        self, authorize: Authorize, *, is_embedded: bool, signs_in: bool = True
    ) -> "Iterable[APIRouter]":
        """Return routers of web pages and of their operations, which are not documented."""
        del authorize, is_embedded, signs_in
        return ()

    def jobs(self) -> Iterable[Job]:
        """Return the background jobs of a server."""
        return ()

    def checks(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """Return health checks by name. A check raises a `StillroomError` if it fails."""
        return {}

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager that is open while a server handles requests."""
        return contextlib.nullcontext()

    def indexing(self, *, stop_within_s: float) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager that indexes changes in the background, in processes without a server."""
        del stop_within_s
        return contextlib.nullcontext()

    def facts(self) -> Iterable[str]:
        """Return lines about the configuration, for the log of a server's start."""
        return ()

    def warnings(self) -> Iterable[str]:
        """Return warnings for the operator."""
        return ()

    async def close(self) -> None:
        """Release all resources. The feature may be used again afterwards."""
