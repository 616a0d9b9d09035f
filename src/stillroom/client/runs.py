"""Runs: folders whose images are published together, at the end of a `with` block."""

from collections.abc import Callable
from typing import Self, Unpack

from stillroom.client import answers
from stillroom.client.requests import RUNS
from stillroom.client.retrying_sender import RetryingSender
from stillroom.client.sources import Source, named
from stillroom.client.values import SaveOptions
from stillroom.wire.images import SavedImage
from stillroom.wire.runs import DeletedRun, PublishedRun


class Run:
    """Run: a folder whose images are published together.

    A `with` block publishes the run at its end, unless an exception was raised.

    Attributes:
        folder: Folder of the images.
        published: Result of `publish`; None before it was called.
    """

    def __init__(
        self,
        folder: str,
        expected: int | None,
        save: Callable[..., SavedImage],
        sender: RetryingSender,
    ) -> None:
        self.folder = folder
        self.published: PublishedRun | None = None
        self._path = named(folder)
        self._target = f"{RUNS}/{self._path.quoted()}"
        self._expected = expected
        self._save = save
        self._saved: set[str] = set()
        self._sender = sender

    def path(self, name: str) -> str:
        """Return the path of the image `name` in this run."""
        return f"{self.folder}/{name}"

    def save(self, name: str, source: Source, **options: Unpack[SaveOptions]) -> SavedImage:
        """Save an image under `name` in the folder, with the options of `ImageStore.save`."""
        saved = self._save(self.path(name), source, **options)
        self._saved.add(saved.path)
        return saved

    def publish(self, expected: int | None = None) -> PublishedRun:
        """Publish the run: write its manifest, the final list of its images.

        `expected` is the required number of images. Default: the value passed to `ImageStore.run`,
        or the number of images saved by this object. Raise `RunConflict` if the number differs,
        or if the run was already published with different images.
        """
        if expected is None:
            expected = len(self._saved) if self._expected is None else self._expected
        target, content = f"{self._target}/publish", {"expected": expected}
        self.published = answers.run_of(self._sender.request("POST", target, content), self._path)
        return self.published

    def read(self) -> PublishedRun:
        """Return the published run or, if it is not published, the images in the folder.

        Raise `RunNotFound` if the folder has no images.
        """
        return answers.run_of(self._sender.request("GET", self._target), self._path)

    def delete(self) -> DeletedRun:
        """Delete the manifest now, and the images after the grace period. See `read` for errors."""
        return answers.parsed(self._sender.request("DELETE", self._target), self.folder, DeletedRun)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self.published is None:
            self.publish()
