"""The promises of `ImageStorage`, one test each, in a class for each capability.

Every backend subclasses `StorageContract`, which is all of them. A backend that works in another
way in some surroundings subclasses, once more for each of these, what is done in another way.

A subclass provides the `storage` fixture and never overrides a test. Where a real
service differs in a way that is documented and pinned, it says so in an attribute.
"""

from contract.conditions import ConditionsContract
from contract.copying import CopyingContract
from contract.deleting import DeletingContract
from contract.listing import ListingContract
from contract.saving import SavingContract
from stillroom.store.port import ImageStorage


class StorageContract(
    SavingContract, ConditionsContract, CopyingContract, DeletingContract, ListingContract
):
    """Subclass this and provide a `storage` fixture, opened with `RULES`."""

    async def test_a_sound_store_passes_its_check(self, storage: ImageStorage) -> None:
        await storage.check()
