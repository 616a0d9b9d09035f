"""The promises of a save with a condition."""

import asyncio

import pytest

from contract.images import CREATE, PNG, Chunks, entries, everything, key, only_if, read, save
from stillroom.errors import PreconditionFailed
from stillroom.store.port import ImageStorage
from stillroom.store.values import ANY, Condition, ListQuery


class ConditionsContract:
    async def test_a_create_only_save_makes_an_image_once(self, storage: ImageStorage) -> None:
        await save(storage, "a.png", b"first", CREATE)

        with pytest.raises(PreconditionFailed):
            await storage.save(key("a.png"), Chunks(b"second"), CREATE)

        assert await read(storage, "a.png") == b"first"

    async def test_of_many_create_only_saves_one_wins(self, storage: ImageStorage) -> None:
        outcomes = await race(storage, CREATE)

        (winner,) = [number for number, has_won in enumerate(outcomes) if has_won]
        assert await read(storage, "race.png") == b"%d" % winner

    async def test_a_guarded_replacement_needs_the_etag_that_is_there(
        self, storage: ImageStorage
    ) -> None:
        etag = await save(storage, "a.png", b"one")

        saved = await save(storage, "a.png", b"two", only_if(etag))

        with pytest.raises(PreconditionFailed):
            await save(storage, "a.png", b"three", only_if(etag))
        assert (await storage.stat(key("a.png"))).etag == saved
        assert await read(storage, "a.png") == b"two"

    async def test_of_many_guarded_replacements_one_wins(self, storage: ImageStorage) -> None:
        etag = await save(storage, "race.png", b"start")

        assert sum(await race(storage, only_if(etag))) == 1

    async def test_a_guarded_replacement_of_nothing_is_refused(self, storage: ImageStorage) -> None:
        for condition in (Condition(if_match=ANY), only_if('"some"')):
            with pytest.raises(PreconditionFailed):
                await save(storage, "a.png", PNG, condition)

        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_if_none_match_with_tags_refuses_only_those(self, storage: ImageStorage) -> None:
        etag = await save(storage, "a.png", b"one")

        with pytest.raises(PreconditionFailed):
            await save(storage, "a.png", b"two", Condition(if_none_match=frozenset([etag])))
        await save(storage, "a.png", b"three", Condition(if_none_match=frozenset(['"other"'])))

        assert await read(storage, "a.png") == b"three"


async def race(storage: ImageStorage, condition: Condition) -> list[bool]:
    """Save eight times at once. Return which of them were accepted."""

    async def attempt(number: int) -> bool:
        try:
            await save(storage, "race.png", b"%d" % number, condition)
        except PreconditionFailed:
            return False
        return True

    return await asyncio.gather(*map(attempt, range(8)))
