"""The promises of a save with a condition."""

import asyncio

import pytest

from contract.images import PNG, Chunks, entries, everything, key, read, save
from stillroom.errors import PreconditionFailed
from stillroom.storage.port import ImageStorage
from stillroom.storage.sources import BytesSource
from stillroom.storage.values import ANY, Condition, ListQuery


class ConditionsContract:
    """Saving only where nothing is there, or what is known."""

    async def test_a_create_only_save_makes_an_image_once(self, storage: ImageStorage) -> None:
        create = Condition(if_none_match=ANY)
        await storage.save(key("a.png"), BytesSource(b"first"), create)
        source = Chunks(b"second")

        with pytest.raises(PreconditionFailed):
            await storage.save(key("a.png"), source, create)

        assert await read(storage, "a.png") == b"first"

    async def test_of_many_create_only_saves_one_wins(self, storage: ImageStorage) -> None:
        async def attempt(number: int) -> int | None:
            try:
                await storage.save(
                    key("race.png"), BytesSource(b"%d" % number), Condition(if_none_match=ANY)
                )
            except PreconditionFailed:
                return None
            return number

        outcomes = await asyncio.gather(*(attempt(number) for number in range(8)))

        (winner,) = [outcome for outcome in outcomes if outcome is not None]
        assert await read(storage, "race.png") == b"%d" % winner

    async def test_a_guarded_replacement_needs_the_etag_that_is_there(
        self, storage: ImageStorage
    ) -> None:
        etag = await save(storage, "a.png", b"one")

        saved = await storage.save(
            key("a.png"), BytesSource(b"two"), Condition(if_match=frozenset([etag]))
        )

        with pytest.raises(PreconditionFailed):
            await storage.save(
                key("a.png"), BytesSource(b"three"), Condition(if_match=frozenset([etag]))
            )
        assert (await storage.stat(key("a.png"))).etag == saved.etag
        assert await read(storage, "a.png") == b"two"

    async def test_of_many_guarded_replacements_one_wins(self, storage: ImageStorage) -> None:
        etag = await save(storage, "race.png", b"start")

        async def attempt(number: int) -> bool:
            try:
                await storage.save(
                    key("race.png"),
                    BytesSource(b"%d" % number),
                    Condition(if_match=frozenset([etag])),
                )
            except PreconditionFailed:
                return False
            return True

        assert sum(await asyncio.gather(*(attempt(number) for number in range(8)))) == 1

    async def test_a_guarded_replacement_of_nothing_is_refused(self, storage: ImageStorage) -> None:
        for if_match in (ANY, frozenset(['"some"'])):
            with pytest.raises(PreconditionFailed):
                await storage.save(key("a.png"), BytesSource(PNG), Condition(if_match=if_match))

        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_if_none_match_with_tags_refuses_only_those(self, storage: ImageStorage) -> None:
        etag = await save(storage, "a.png", b"one")

        with pytest.raises(PreconditionFailed):
            await storage.save(
                key("a.png"), BytesSource(b"two"), Condition(if_none_match=frozenset([etag]))
            )
        await storage.save(
            key("a.png"), BytesSource(b"three"), Condition(if_none_match=frozenset(['"other"']))
        )

        assert await read(storage, "a.png") == b"three"
