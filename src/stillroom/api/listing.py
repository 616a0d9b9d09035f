"""What a listing shows to whom: the same for paths alone and for entries with their facts."""

from dataclasses import dataclass
from typing import Self

from stillroom.api.call import Call
from stillroom.http.query import ListParameters, parse_list_query
from stillroom.paths import ImagePrefix, KeyPrefix, image_key_bound
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery


@dataclass(frozen=True, slots=True)
class Listing:
    """A request for a page, and the part of it that the caller may see.

    Attributes:
        asked: What was asked for.
        visible: The prefix, narrowed to the caller's folder.
    """

    asked: ListParameters
    visible: ImagePrefix

    @classmethod
    def of(cls, call: Call) -> Self:
        """What `call` asks for.

        Raises:
            InvalidPath, InvalidParameter, Forbidden: in this order.
        """
        asked = parse_list_query(call.query)
        return cls(asked, call.grant.narrow("storage:read", asked.prefix))

    @property
    def query(self) -> ListQuery:
        """What the storage is asked."""
        return ListQuery(
            prefix=KeyPrefix.of_images(self.visible),
            after=image_key_bound(self.asked.start_after),
            limit=self.asked.limit,
            delimited=self.asked.delimited,
        )

    @property
    def is_above_folder(self) -> bool:
        """Whether the caller's folder lies below the one level that was asked for."""
        return self.asked.delimited and "/" in self.visible.text[len(self.asked.prefix.text) :]

    async def way_to_folder(self, storage: ImageStorage) -> list[str]:
        """What a caller confined to a deeper folder sees of this level: the way there, if any."""
        folder, after = self.visible.text, self.asked.start_after
        entry = folder[: folder.index("/", len(self.asked.prefix.text)) + 1]
        if entry <= after and not (after.startswith(entry) and after != entry):
            return []
        page = await storage.list(
            ListQuery(KeyPrefix(image_key_bound(folder)), after=image_key_bound(after), limit=1)
        )
        return [entry] if page.entries else []
