"""Query of a listing, limited to the folder that the token permits to read."""

from dataclasses import dataclass
from typing import Self

from stillroom.api.call import Call
from stillroom.http.query import ListParameters
from stillroom.paths import ImagePrefix, KeyPrefix, image_key_bound
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery


@dataclass(frozen=True, slots=True)
class Listing:
    """Query parameters of a listing. `visible` is the prefix that the client may read."""

    parameters: ListParameters
    visible: ImagePrefix

    @classmethod
    def of(cls, call: Call) -> Self:
        """Parse the query of a request.

        Raises:
            InvalidPath, InvalidParameter: the query is malformed.
            Forbidden: the token does not permit to read images.
        """
        parameters = call.query(ListParameters)
        return cls(parameters, call.grant.narrow("storage:read", parameters.prefix))

    @property
    def query(self) -> ListQuery:
        """Return the query to send to the storage."""
        return ListQuery(
            prefix=KeyPrefix.of_images(self.visible),
            after=image_key_bound(self.parameters.start_after),
            limit=self.parameters.limit,
            delimited=self.parameters.delimited,
        )

    @property
    def is_above_folder(self) -> bool:
        """Return whether one level was requested, and the client's folder is in a deeper level."""
        parameters = self.parameters
        return parameters.delimited and "/" in self.visible.text[len(parameters.prefix.text) :]

    async def visible_folder(self, storage: ImageStorage) -> list[str]:
        """Return a list with the folder that contains the client's folder, or [] if it is empty."""
        folder, after = self.visible.text, self.parameters.start_after
        entry = folder[: folder.index("/", len(self.parameters.prefix.text)) + 1]
        if entry <= after and not (after.startswith(entry) and after != entry):
            return []
        page = await storage.list(
            ListQuery(KeyPrefix(image_key_bound(folder)), after=image_key_bound(after), limit=1)
        )
        return [entry] if page.entries else []
