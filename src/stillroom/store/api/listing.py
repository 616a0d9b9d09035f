"""Listing of images, limited to the folder that the token permits to read."""

from dataclasses import dataclass
from typing import Self

from stillroom.paths import ImagePrefix, KeyPrefix, image_key_bound
from stillroom.store.api.call import Call
from stillroom.store.http.parameters import link_after
from stillroom.store.http.query import ListParameters
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery


@dataclass(frozen=True, slots=True)
class Listing:
    """Listing of images that a client requests, limited to the folder of its token."""

    parameters: ListParameters
    visible: ImagePrefix  # requested prefix, or the token's folder if that is deeper
    raw_query: bytes

    @classmethod
    def of(cls, call: Call) -> Self:
        """Parse the query of a request and check the permission to list images."""
        parameters = call.query(ListParameters)
        visible = call.grant.narrow("storage:read", parameters.prefix)
        return cls(parameters, visible, call.raw_query)

    @property
    def query(self) -> ListQuery:
        """Query with which the storage lists one page."""
        return ListQuery(
            prefix=KeyPrefix.of_images(self.visible),
            after=image_key_bound(self.parameters.start_after),
            limit=self.parameters.limit,
            delimited=self.parameters.delimited,
        )

    def link_after(self, last_entry: str) -> str:
        """Return a `Link` header to the next page, which begins after `last_entry`."""
        return link_after(last_entry, self.raw_query, ListParameters)

    @property
    def is_above_folder(self) -> bool:
        """Return whether the requested level of folders is above the token's folder."""
        parameters = self.parameters
        return parameters.delimited and "/" in self.visible.text[len(parameters.prefix.text) :]

    async def visible_folder(self, storage: ImageStorage) -> list[str]:
        """Return a list with the folder on the requested level that contains the token's folder.

        The list is empty if the token's folder has no images, or if an earlier page had the folder.
        """
        folder, after = self.visible.text, self.parameters.start_after
        entry = folder[: folder.index("/", len(self.parameters.prefix.text)) + 1]
        if entry <= after and not (after.startswith(entry) and after != entry):
            return []
        page = await storage.list(
            ListQuery(KeyPrefix(image_key_bound(folder)), after=image_key_bound(after), limit=1)
        )
        return [entry] if page.entries else []
