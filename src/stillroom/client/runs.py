"""Runs in the SDK: `store.run(folder)`, which publishes at the end of its `with` block."""

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
    """What carries out a flow, and waits."""

    def __call__(self, flow: Flow[T], /) -> T:
        """The result of a flow."""
        ...


class RunsFlowsLater(Protocol):
    """The same for an event loop."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]:
        """The result of a flow."""
        ...


class _Folder:
    """What both kinds of runs have.

    Attributes:
        folder: Where the images are.
        published: What was published; None before that.
    """

    def __init__(self, folder: str, retries: Retries, expected: int | None) -> None:
        self.folder = folder
        self.published: PublishedRun | None = None
        self._path = named(folder)
        self._retries = retries
        self._expected = expected
        self._saved: set[str] = set()

    def path(self, name: str) -> str:
        """The path of an image of this run: `name` behind the folder."""
        return f"{self.folder}/{name}"

    def _count(self, expected: int | None) -> int:
        if expected is not None:
            return expected
        return len(self._saved) if self._expected is None else self._expected


class Run(_Folder):
    """A run: a folder whose images are published together.

    As a context manager it publishes at its end, and does not when an exception leaves it.
    """

    def __init__(
        self,
        folder: str,
        expected: int | None,
        save: Callable[..., SavedImage],
        flows: RunsFlows,
        retries: Retries,
    ) -> None:
        """Use `ImageStore.run`."""
        super().__init__(folder, retries, expected)
        self._save = save
        self._flows = flows

    def save(self, name: str, source: Source, **options: Unpack[SaveOptions]) -> SavedImage:
        """Save an image of this run; see `ImageStore.save` for all but its name in the folder."""
        saved = self._save(self.path(name), source, **options)
        self._saved.add(saved.path)
        return saved

    def publish(self, expected: int | None = None) -> PublishedRun:
        """Publish the run: write its manifest, once.

        Args:
            expected: How many images it must have; else what `ImageStore.run` was given, else as
                many as were saved by this object.

        Raises:
            RunConflict: it has more or fewer; or was published as another set of images.
        """
        flow = run_operations.publish(self._retries, self._path, self._count(expected))
        self.published = self._flows(flow)
        return self.published

    def read(self) -> PublishedRun:
        """The manifest; or what is in the folder, while it is open.

        Raises:
            RunNotFound: there are no images.
        """
        return self._flows(run_operations.read(self._retries, self._path))

    def delete(self) -> DeletedRun:
        """Delete the run: its manifest now, its images when the grace period is over.

        Raises:
            RunNotFound: there are no images.
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
    """See `Run`."""

    def __init__(
        self,
        folder: str,
        expected: int | None,
        save: Callable[..., Awaitable[SavedImage]],
        flows: RunsFlowsLater,
        retries: Retries,
    ) -> None:
        """Use `AsyncImageStore.run`."""
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
