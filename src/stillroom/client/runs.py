"""Runs: folders of images that are published together, at the end of a `with` block."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

from stillroom.client import run_operations
from stillroom.client.exchange import Flow
from stillroom.client.retries import Retries
from stillroom.client.sources import Source, named
from stillroom.client.values import DeletedRun, PublishedRun, SavedImage, SaveOptions

T = TypeVar("T")


class RunsFlows(Protocol):
    """Function that executes a `Flow`: it sends the requests that the generator yields."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Execute a flow and return its result."""
        ...


class RunsFlowsLater(Protocol):
    """Asynchronous version of `RunsFlows`."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]:
        """Execute a flow and return its result."""
        ...


class _Folder:
    """Base class of `Run` and `AsyncRun`.

    Attributes:
        folder: Folder of the images.
        published: Result of `publish`; None before it was called.
    """

    def __init__(self, folder: str, retries: Retries, expected: int | None) -> None:
        self.folder = folder
        self.published: PublishedRun | None = None
        self._path = named(folder)
        self._retries = retries
        self._expected = expected
        self._saved: set[str] = set()

    def path(self, name: str) -> str:
        """Return the path of the image `name` in this run."""
        return f"{self.folder}/{name}"

    def _count(self, expected: int | None) -> int:
        if expected is not None:
            return expected
        return len(self._saved) if self._expected is None else self._expected


class Run(_Folder):
    """Folder whose images are published together.

    As a context manager, it publishes the run on exit, unless an exception was raised.
    """

    def __init__(
        self,
        folder: str,
        expected: int | None,
        save: Callable[..., SavedImage],
        flows: RunsFlows,
        retries: Retries,
    ) -> None:
        """Create a run. Use `ImageStore.run` instead of this constructor."""
        super().__init__(folder, retries, expected)
        self._save = save
        self._flows = flows

    def save(self, name: str, source: Source, **options: Unpack[SaveOptions]) -> SavedImage:
        """Save an image under `name` in the folder. For other arguments see `ImageStore.save`."""
        saved = self._save(self.path(name), source, **options)
        self._saved.add(saved.path)
        return saved

    def publish(self, expected: int | None = None) -> PublishedRun:
        """Publish the run by writing its manifest, the list of its images, which never changes.

        Args:
            expected: Required number of images. Default: the value passed to `ImageStore.run`, or
                the number of images saved by this object.

        Raises:
            RunConflict: The number of images is not `expected`, or the run has already been
                published with different images.
        """
        flow = run_operations.publish(self._retries, self._path, self._count(expected))
        self.published = self._flows(flow)
        return self.published

    def read(self) -> PublishedRun:
        """Return the images in the manifest, or in the folder if the run is not yet published.

        Raises:
            RunNotFound: The folder has no images.
        """
        return self._flows(run_operations.read(self._retries, self._path))

    def delete(self) -> DeletedRun:
        """Delete the manifest immediately, and the images after the grace period.

        Raises:
            RunNotFound: The folder has no images.
        """
        return self._flows(run_operations.delete(self._retries, self._path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.published is None:
            self.publish()


class AsyncRun(_Folder):
    """Asynchronous version of `Run`."""

    def __init__(
        self,
        folder: str,
        expected: int | None,
        save: Callable[..., Awaitable[SavedImage]],
        flows: RunsFlowsLater,
        retries: Retries,
    ) -> None:
        """Create a run. Use `AsyncImageStore.run` instead of this constructor."""
        super().__init__(folder, retries, expected)
        self._save = save
        self._flows = flows

    async def save(self, name: str, source: Source, **options: Unpack[SaveOptions]) -> SavedImage:
        """See `Run.save`."""
        saved = await self._save(self.path(name), source, **options)
        self._saved.add(saved.path)
        return saved

    async def publish(self, expected: int | None = None) -> PublishedRun:
        """See `Run.publish`."""
        flow = run_operations.publish(self._retries, self._path, self._count(expected))
        self.published = await self._flows(flow)
        return self.published

    async def read(self) -> PublishedRun:
        """See `Run.read`."""
        return await self._flows(run_operations.read(self._retries, self._path))

    async def delete(self) -> DeletedRun:
        """See `Run.delete`."""
        return await self._flows(run_operations.delete(self._retries, self._path))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.published is None:
            await self.publish()
