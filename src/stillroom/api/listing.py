"""Query parameters of a listing, limited to the folder that the token permits to read."""

from dataclasses import dataclass
from typing import Self

from stillroom.api.call import Call
from stillroom.http.query import ListParameters
from stillroom.paths import ImagePrefix, KeyPrefix, image_key_bound
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery


@dataclass(frozen=True, slots=True)
class Listing:
    """Query parameters of a listing. `visible` is their prefix, limited to the token's folder."""

    parameters: ListParameters
    visible: ImagePrefix

    @classmethod
    def of(cls, call: Call) -> Self:
        """Parse the query of a request and check the permission to list images."""
        parameters = call.query(ListParameters)
        return cls(parameters, call.grant.narrow("storage:read", parameters.prefix))

    @property
    def query(self) -> ListQuery:
        """Query that the storage runs to list one page."""
        return ListQuery(
            prefix=KeyPrefix.of_images(self.visible),
            after=image_key_bound(self.parameters.start_after),
            limit=self.parameters.limit,
            delimited=self.parameters.delimited,
        )

    @property
    def is_above_folder(self) -> bool:
        """Return whether the request is for one level of folders above the folder of the token."""
        parameters = self.parameters
        return parameters.delimited and "/" in self.visible.text[len(parameters.prefix.text) :]

    async def visible_folder(self, storage: ImageStorage) -> list[str]:
        """Return the only folder that the client may see in the requested level, in a list.

        It contains the folder of the token. The list is empty if the folder has no images or
        belongs to an earlier page.
        """
        folder, after = self.visible.text, self.parameters.start_after
        entry = folder[: folder.index("/", len(self.parameters.prefix.text)) + 1]
        if entry <= after and not (after.startswith(entry) and after != entry):
            return []
        page = await storage.list(
            ListQuery(KeyPrefix(image_key_bound(folder)), after=image_key_bound(after), limit=1)
        )
        return [entry] if page.entries else []
