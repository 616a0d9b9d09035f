"""Listing query, limited to the token's folder. Shared by `list_images` and `list_entries`."""

from dataclasses import dataclass
from typing import Self

from stillroom.api.call import Call
from stillroom.http.query import ListParameters, parse_list_query
from stillroom.paths import ImagePrefix, KeyPrefix, image_key_bound
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery


@dataclass(frozen=True, slots=True)
class Listing:
    """Listing query, with the requested prefix narrowed to the caller's folder (`visible`)."""

    parameters: ListParameters
    visible: ImagePrefix

    @classmethod
    def of(cls, call: Call) -> Self:
        """Parse the query of a request.

        Raises:
            InvalidPath, InvalidParameter, Forbidden: checked in this order.
        """
        parameters = parse_list_query(call.query)
        return cls(parameters, call.grant.narrow("storage:read", parameters.prefix))

    @property
    def query(self) -> ListQuery:
        """Query for the storage."""
        return ListQuery(
            prefix=KeyPrefix.of_images(self.visible),
            after=image_key_bound(self.parameters.start_after),
            limit=self.parameters.limit,
            delimited=self.parameters.delimited,
        )

    @property
    def is_above_folder(self) -> bool:
        """Return whether the caller's folder is below the single level that was requested."""
        parameters = self.parameters
        return parameters.delimited and "/" in self.visible.text[len(parameters.prefix.text) :]

    async def visible_folder(self, storage: ImageStorage) -> list[str]:
        """List the one folder on this level that leads to the caller's folder, if it has images."""
        folder, after = self.visible.text, self.parameters.start_after
        entry = folder[: folder.index("/", len(self.parameters.prefix.text)) + 1]
        if entry <= after and not (after.startswith(entry) and after != entry):
            return []
        page = await storage.list(
            ListQuery(KeyPrefix(image_key_bound(folder)), after=image_key_bound(after), limit=1)
        )
        return [entry] if page.entries else []
