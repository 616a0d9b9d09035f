"""Client for the media library (`store.media`)."""

import builtins
from collections.abc import Iterable, Iterator
from typing import Unpack

from stillroom.client.exchange import FlowRunner
from stillroom.client.library_operations import (
    LibraryCalls,
    OnHealing,
    ResourceId,
    resources_query,
)
from stillroom.client.sources import named
from stillroom.client.values import MediaResource, ResourceChanges, ResourceFilters


class MediaLibrary:
    """Media library of a server, available as `ImageStore.media`."""

    def __init__(self, calls: LibraryCalls, run: FlowRunner) -> None:
        self._calls = calls
        self._run = run

    def list(self, **filters: Unpack[ResourceFilters]) -> Iterator[MediaResource]:
        """Iterate over all resources, newest first. Pages are requested as needed."""
        query: str | None = resources_query(filters)
        while query is not None:
            resources, query = self._run(self._calls.page(query))
            yield from resources

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """Add an image to the library. If its bytes are already in it, return that resource.

        Args:
            path: Path of the image, as for `save`.
            relocate: Copy the bytes into the library and later delete the image. If False, the
                resource refers to the image at its present path.
        """
        return self._run(self._calls.ingest(named(path), relocate=relocate))

    def get(self, resource_id: ResourceId) -> MediaResource:
        """Return a resource.

        Raises:
            ResourceNotFound: The resource does not exist.
        """
        return self._run(self._calls.get(resource_id))

    def update(
        self,
        resource_id: ResourceId,
        *,
        only_unset: bool = False,
        **changes: Unpack[ResourceChanges],
    ) -> MediaResource:
        """Update the fields in `changes`; with `only_unset`, only those that are None so far.

        With `only_unset`, several programs can set the same field: the first value is kept.

        Raises:
            ResourceNotFound: The resource does not exist.
        """
        return self._run(self._calls.update(resource_id, changes, only_unset=only_unset))

    def delete(self, resource_id: ResourceId) -> None:
        """Delete a resource. Its bytes are deleted after the grace period.

        Raises:
            ResourceNotFound: The resource does not exist.
            ResourceProtected: The resource is protected.
        """
        self._run(self._calls.delete(resource_id))

    def tags(
        self,
        resource_id: ResourceId,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        replace: Iterable[str] | None = None,
    ) -> builtins.list[str]:
        """Change the tags of a resource if changes are passed. Return all its tags, sorted.

        Args:
            resource_id: ID of the resource.
            add: Tags to add.
            remove: Tags to remove.
            replace: Tags that replace all existing ones, before `add` and `remove` are applied.
        """
        return self._run(self._calls.tags(resource_id, add=add, remove=remove, replace=replace))

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """Compute missing fields of resources. Return the number of resources to be completed.

        The server does this in the background if its sweeper (a periodic job) is running.

        Args:
            ids: Up to 1,000 resource IDs, or None for all resources.
            progress: Called once a second until all resources are complete. If it is None, the
                method returns immediately.
        """
        return self._run(self._calls.heal(ids, progress))
