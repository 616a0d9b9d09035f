"""The search index beside a storage: filled by what changes, healed by comparing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from contract.images import RULES, document, manifest_key
from generation.carriers import png
from media.library import key
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now
from stillroom.features.database.config import RowsConfig
from stillroom.features.database.tables import scans
from stillroom.features.library.database import MediaDatabase
from stillroom.features.retention.expiry import never_stops
from stillroom.features.search import catching_up, comparing, filling, healing
from stillroom.features.search.catching_up import CatchingUp
from stillroom.features.search.comparing import Comparing, Healed
from stillroom.features.search.database import count_rows, search_rows
from stillroom.features.search.filling import IndexFilling
from stillroom.features.search.healing import IndexHealing
from stillroom.features.search.rows import SearchRows
from stillroom.features.search.tables import search_counts
from stillroom.features.search.terms import parse_terms
from stillroom.features.search.values import SearchQuery
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation import reading
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.choose import DiskConfig, R2Config, open_storage
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ListQuery
from stillroom.wire.generation import Generation
from waiting import eventually


@dataclass
class Worker:
    """A process's storage, with the index that it fills."""

    storage: ImageStorage
    database: MediaDatabase
    filling: IndexFilling = field(repr=False)
    healing: IndexHealing
    folder: Path

    async def save(self, path: str, prompt: str | None = None) -> None:
        await self.storage.save(key(path), BytesSource(image(prompt)))

    async def found(self, asked: str = "", **bounds: Any) -> list[str]:
        terms = parse_terms(asked).terms
        query = SearchQuery(**{"prefix": KeyPrefix("compute/"), "terms": terms, **bounds})
        page = await (await search_rows(self.database)).search(query)
        return [one.image.key.text.removeprefix("compute/") for one in page.images]

    async def finds(self, expected: list[str], asked: str = "", **bounds: Any) -> None:
        found: list[str] = []

        async def is_found() -> bool:
            found[:] = await self.found(asked, **bounds)
            return found == expected

        await eventually(is_found, said=lambda: (found, expected))


def image(prompt: str | None) -> bytes:
    return png({} if prompt is None else {"parameters": f"{prompt}\nSteps: 20, Seed: 7, Model: m"})


@pytest.fixture
async def workers(
    request: pytest.FixtureRequest, pair: tuple[str, str], config: RowsConfig, tmp_path: Path
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two of them, on one store and one database."""
    where: DiskConfig | R2Config = DiskConfig(tmp_path / "data", min_free_bytes=0)
    if pair[0] == "bucket":
        seaweed: SeaweedFS = request.getfixturevalue("seaweed")
        request.getfixturevalue("operator")  # it has the bucket made
        where = R2Config(seaweed.endpoint_url, KEY_ID, SECRET, BUCKET)
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            database = MediaDatabase(config)
            filling = IndexFilling(database)
            storage = open_storage(where, RULES, changes=filling)
            stack.push_async_callback(storage.close)
            stack.push_async_callback(database.close)
            await stack.enter_async_context(filling.running(storage, stop_within_s=5))
            compares = isinstance(where, DiskConfig)
            made = IndexHealing(storage, database, compares_saves=compares)
            opened.append(Worker(storage, database, filling, made, tmp_path / "data"))
        yield opened[0], opened[1]
    if pair[0] == "bucket":
        request.getfixturevalue("seaweed").empty()


@pytest.mark.pairs
async def test_what_a_worker_changes_is_found_by_the_other(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers

    await one.save("a/1.png", "a red fox")
    await other.finds(["a/1.png"], "fox seed:7")
    await other.storage.copy(key("a/1.png"), key("b/2.png"))
    await one.finds(["b/2.png"], "fox", prefix=KeyPrefix("compute/b/"))
    await other.save("a/1.png", "a blue whale")
    await one.finds(["a/1.png"], "whale")
    assert await one.found("fox") == ["b/2.png"]
    await one.storage.delete(key("a/1.png"))
    await other.finds(["b/2.png"])


async def test_one_that_is_deleted_before_it_is_written_is_not_found(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers

    for number in range(10):
        await one.save(f"{number}.png", "a fox")
        await other.storage.delete(key(f"{number}.png"))
    await one.save("last.png")

    await other.finds(["last.png"])


async def test_saves_go_on_without_a_database_and_are_found_when_it_is_back(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    await one.save("0.png")
    await one.finds(["0.png"])

    async def away(_: MediaDatabase) -> None:
        raise BackendUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(MediaDatabase, "engine", away)
        await one.save("1.png", "a fox")
        await one.storage.delete(key("0.png"))
        with pytest.raises(BackendUnavailable):
            await one.found()
        await asyncio.sleep(0.3)  # a batch is tried meanwhile, and fails

    await other.finds(["1.png"])
    await other.finds(["1.png"], "fox")


async def test_the_manifest_of_a_run_is_no_image(workers: tuple[Worker, Worker]) -> None:
    one, other = workers

    await one.storage.save(manifest_key("runs/7"), document(b"{}"))
    await one.save("runs/7/1.png", "a fox")

    await other.finds(["runs/7/1.png"])


async def test_what_is_saved_while_a_batch_fails_is_not_replaced_by_it(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    write = SearchRows.write

    async def fails_once(*_: object, **__: object) -> int:
        monkeypatch.setattr(SearchRows, "write", write)
        await one.save("1.png", "a blue whale")
        raise BackendUnavailable("away")

    monkeypatch.setattr(SearchRows, "write", fails_once)
    await one.save("1.png", "a red fox")

    await other.finds(["1.png"], "whale")


async def test_images_saved_during_a_slow_write_are_not_read_again_from_the_storage(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes are parsed meanwhile, and so do not fill the memory for queued changes."""
    one, other = workers
    write, goes_on, begun = SearchRows.write, asyncio.Event(), asyncio.Event()

    async def is_slow(*args: Any, **how: Any) -> int:
        begun.set()
        await goes_on.wait()
        return await write(*args, **how)

    opened: list[StorageKey] = []
    monkeypatch.setattr(SearchRows, "write", is_slow)
    monkeypatch.setattr(one.storage, "open", opened.append)
    monkeypatch.setattr(filling, "_NOTE_BYTES", 8)
    await one.save("0.png", "a red fox")
    await begun.wait()
    size = len(image("a red fox"))
    monkeypatch.setattr(filling, "_MAX_NOTED_BYTES", 2 * size)
    for number in range(1, 5):
        await one.save(f"{number}.png", "a red fox")
        await eventually(lambda: not one.filling._unparsed and one.filling._noted_bytes < size)
    goes_on.set()

    await other.finds([f"{number}.png" for number in (4, 3, 2, 1, 0)], "fox", descending=True)
    assert opened == []


async def test_a_copy_has_the_facts_of_what_was_copied_and_not_of_what_came_since(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    await one.save("1.png", "a red fox")
    source = await one.storage.stat(key("1.png"))
    copied = await _without_index(one).copy(source.key, key("2.png"))
    one.filling._is_running = True

    await one.save("1.png", "a blue whale")
    one.filling.copied(copied, source)

    await other.finds(["2.png"], "fox")


async def test_what_was_too_much_to_note_is_healed_at_once(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    monkeypatch.setattr(comparing, "SETTLED_NS", 0)
    assert (await one.healing.heal(_at_once)).is_whole, "and again in an hour"
    with monkeypatch.context() as patched:
        patched.setattr(filling, "_MAX_NOTED", 0)
        await one.save("1.png", "a fox")
    await one.save("2.png")

    async def healed() -> int:
        return (await other.healing.heal(_at_once)).written

    await eventually(healed)
    await other.finds(["1.png"], "fox")


async def test_an_overwrite_that_was_too_much_to_note_is_found_at_once(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket, too, where its name is known: it is newer than the first change that was lost.

    Another process may make the comparison, and compares from the same time on.
    """
    one, other = workers
    comparison = started(one)
    await comparison.catch_up(_at_once)
    one.filling._before_writing = comparison.note_start
    await one.save("1.png", "a fox")
    await one.finds(["1.png"])
    with monkeypatch.context() as patched:
        patched.setattr(filling, "_MAX_NOTED", 0)
        await one.save("1.png", "a wolf")
    lost = await one.storage.stat(key("1.png"))
    await one.save("2.png", "a fox")
    await one.finds(["2.png", "1.png"], "fox")

    async with (await one.database.engine()).reading() as connection:
        since = await connection.execute(sa.select(scans.c.after).where(scans.c.name == "start"))
        assert int(since.scalar_one()) // 10**9 <= lost.modified_ns // 10**9
    assert await comparison.catch_up(_at_once) is not None

    assert await other.found("wolf") == ["1.png"]
    assert await comparison.catch_up(_at_once) is None, "once is enough"


async def test_healing_finds_what_no_worker_has_seen(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    monkeypatch.setattr(comparing, "SETTLED_NS", 0)
    for number in range(5):
        await one.save(f"{number}.png", "a fox")
    saved = [f"{number}.png" for number in range(5)]
    await one.finds(saved, order="path", descending=False)
    unseen = _without_index(one)
    await unseen.delete(key("0.png"))
    await unseen.save(key("new/5.png"), BytesSource(image("a wolf")))
    await unseen.copy(key("new/5.png"), StorageKey("media/0197/file.png"))
    await unseen.save(key("1.png"), BytesSource(image("a bear")))
    saved_over = 1 if one.healing.compares_saves else 0  # in a bucket only new ones are read
    monkeypatch.setattr(healing, "_PAGE", 2)

    healed = await other.healing.heal(_at_once)

    assert (healed.written, healed.removed, healed.is_whole) == (2 + saved_over, 1, True)
    assert await other.found("bear") == ["1.png"] * saved_over
    assert len(await other.found(prefix=KeyPrefix("media/"))) == 1
    assert await other.found("wolf") == ["new/5.png"]
    assert len(await other.found()) == 5
    assert await one.healing.heal(_at_once) == Healed(), "it is not time for another one"


async def test_a_rebuild_resumes_where_it_was_stopped(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    unseen = _without_index(one)
    for number in range(5):
        await unseen.save(key(f"{number}.png"), BytesSource(image(f"fox {number}")))
    monkeypatch.setattr(healing, "_PAGE", 2)
    seen: list[int] = []

    stopped = await one.healing.rebuild(
        _stops, restart=False, progress=lambda healed: seen.append(healed.images)
    )
    assert stopped is not None
    assert (stopped.images, stopped.is_whole) == (2, False)
    assert len(await one.found()) == 2
    resumed = await other.healing.rebuild(_at_once, restart=False, progress=lambda _: None)
    assert resumed is not None
    assert (resumed.images, resumed.is_whole) == (3, True)
    assert len(await one.found("fox")) == 5
    whole = await other.healing.rebuild(_at_once, restart=True, progress=lambda _: None)
    assert whole is not None
    assert whole.images == 5
    assert seen == [2]


async def test_a_rebuild_counts_all_images_again(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    unseen = _without_index(one)
    for number in range(3):
        await unseen.save(key(f"{number}.png"), BytesSource(image(f"fox {number}")))
    rows = await count_rows(one.database)
    query = SearchQuery(prefix=KeyPrefix("compute/"))

    for _ in range(2):
        await one.healing.rebuild(_at_once, restart=True, progress=lambda _: None)
        found = await rows.facets(query, with_tags=False)
        assert (found.counted, found.complete) == (3, True)
        assert [(model.value, model.count) for model in found.model] == [("m", 3)]
        engine = await one.database.engine()
        await engine.rewrite(lambda connection: connection.execute(sa.delete(search_counts)))


def _without_index(worker: Worker) -> ImageStorage:
    """The same storage, as another tool has it."""
    worker.filling._is_running = False  # as in a process that died
    return worker.storage


async def _at_once(_: float) -> bool:
    return await never_stops(0)


async def _stops(_: float) -> bool:
    return True


async def test_an_image_that_cannot_be_read_holds_up_no_other(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers

    async def broken(*_: object) -> None:
        raise BackendUnavailable("an error of the medium")

    with monkeypatch.context() as patched:
        patched.setattr(one.storage, "open", broken)
        one.filling.saved((await one.storage.copy(await made(one), key("bad.png"))), None)
        await one.save("good.png", "a fox")
        await other.finds(["good.png"], "fox")
    await other.finds(["bad.png"], "seed:8")


async def made(worker: Worker) -> StorageKey:
    """An image that the index does not have."""
    parameters = png({"parameters": "a wolf\nSteps: 20, Seed: 8, Model: m"})
    await _without_index(worker).save(key("unseen.png"), BytesSource(parameters))
    worker.filling._is_running = True
    return key("unseen.png")


async def test_a_file_that_no_parser_expected_holds_up_no_other(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers

    def surprised(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
        del budget
        raise AssertionError(texts)

    monkeypatch.setattr(reading, "_TOOLS", (SimpleNamespace(read=surprised),))
    await one.save("1.png", "a red fox")
    await one.save("2.png", "a blue whale")

    await other.finds(["2.png", "1.png"])


# After a start


def lost(worker: Worker) -> ImageStorage:
    """The storage of a process that dies before it has written what it has noted."""
    return _without_index(worker)


def started(worker: Worker) -> CatchingUp:
    """The comparison of a process that has started now."""
    return CatchingUp(worker.storage, worker.database)


@pytest.mark.pairs
async def test_a_start_finds_what_the_crash_before_it_has_left_out(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    for number in range(5):
        await one.save(f"a/{number}.png", "a fox")
    await one.finds([f"a/{number}.png" for number in range(5)], order="path", descending=False)
    dying = lost(one)
    await dying.delete(key("a/0.png"))
    await dying.save(key("a/1.png"), BytesSource(image("a wolf")))
    await dying.save(key("new/deep/5.png"), BytesSource(image("a wolf")))
    one.filling._is_running = True

    healed = await started(other).catch_up(_at_once)

    assert healed is not None
    assert (healed.written, healed.removed, healed.is_whole) == (2, 1, True)
    found = await other.found("wolf", order="path", descending=False)
    assert found == ["a/1.png", "new/deep/5.png"]
    assert len(await other.found()) == 5


async def test_a_comparison_that_a_wrong_clock_began_is_repeated(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    await started(one).catch_up(_at_once)
    later = now() + timedelta(seconds=30)
    async with (await one.database.engine()).writing() as connection:
        await connection.execute(sa.update(scans).values(next_at=later))

    assert await started(other).catch_up(_at_once) is not None


@pytest.mark.pairs
async def test_of_the_processes_that_start_together_one_compares(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    await one.save("a.png")
    await one.finds(["a.png"])
    together = [started(one), started(other), started(one)]

    healed = await asyncio.gather(*(each.catch_up(_at_once) for each in together))

    assert sum(each is not None for each in healed) == 1
    assert await together[0].catch_up(_at_once) is None, "it does so once"
    assert await started(other).catch_up(_at_once) is not None, "another start, another comparison"


@pytest.mark.pairs
async def test_the_first_save_after_a_start_does_not_hide_what_was_lost_before(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process notes how far the index goes before it writes; another one compares later."""
    one, other = workers
    monkeypatch.setattr(catching_up, "SETTLED_NS", 0)
    await one.save("a/1.png")
    await one.finds(["a/1.png"])
    await lost(one).save(key("b/2.png"), BytesSource(image("a wolf")))
    one.filling._before_writing, one.filling._is_running = started(one).note_start, True
    await one.save("c/3.png", "a fox")
    await one.finds(["c/3.png", "a/1.png"])

    assert await started(other).catch_up(_at_once) is not None

    assert await other.found("wolf") == ["b/2.png"]


@pytest.mark.pairs
async def test_a_comparison_that_is_killed_is_made_by_the_next_start(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    monkeypatch.setattr(catching_up, "_LEASE", timedelta(seconds=-1))  # as if it were over
    monkeypatch.setattr(catching_up, "SETTLED_NS", 0)
    await one.save("a/1.png")
    await one.finds(["a/1.png"])
    await lost(one).save(key("b/2.png"), BytesSource(image("a wolf")))
    dying = started(other)

    async def dies(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(Comparing, "compare", dies)
        with pytest.raises(asyncio.CancelledError):
            await dying.catch_up(_at_once)
    one.filling._is_running = True
    await one.save("c/3.png")  # newer than what was lost
    await one.finds(["c/3.png", "a/1.png"])

    assert await started(other).catch_up(_at_once) is not None

    assert await other.found("wolf") == ["b/2.png"]


async def test_a_comparison_that_fails_is_made_when_the_storage_is_back(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = workers
    await lost(one).save(key("b/2.png"), BytesSource(image("a wolf")))
    comparison = started(one)

    async def away(*_: object, **__: object) -> None:
        raise BackendUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(Comparing, "compare", away)
        with pytest.raises(BackendUnavailable):
            await comparison.catch_up(_at_once)
    await comparison.catch_up(_at_once)

    assert await one.found() == ["b/2.png"]


async def test_a_start_finds_the_folders_that_are_gone_and_pages_of_large_ones(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    monkeypatch.setattr(catching_up, "_PAGE", 3)
    stay = [f"a/{name}" for name in ("0.png", "b/1.png", "c.png", "d/e/2.png", "f.png", "g/3.png")]
    gone = ["a/0/1.png", "a/b.png", "a/d/e/f/4.png", "a/ez/5.png", "a/z/6.png"]
    for path in (*stay, *gone):
        await one.save(path)
    await one.finds(sorted([*stay, *gone]), order="path", descending=False)
    dying = lost(one)
    for path in gone:
        await dying.delete(key(path))
    if isinstance(dying, DiskImageStorage):
        for file in (one.folder / "compute" / path for path in gone):
            with contextlib.suppress(OSError):  # others are in it
                file.parent.rmdir()
    await dying.save(key("a/h/7.png"), BytesSource(image("a wolf")))

    healed = await started(other).catch_up(_at_once)

    assert healed is not None
    assert (healed.written, healed.removed) == (1, len(gone))
    assert await other.found(order="path", descending=False) == [*stay, "a/h/7.png"]


async def test_after_a_start_only_folders_that_have_changed_are_listed(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    monkeypatch.setattr(catching_up, "SETTLED_NS", 0)
    for number in range(20):
        await one.save(f"a/{number}/1.png")
    await one.save("b/1.png")
    await one.save("b/c/2.png")

    async def all_are_found() -> bool:
        return len(await one.found()) == 22

    await eventually(all_are_found)
    dying = lost(one)
    await dying.save(key("b/c/3.png"), BytesSource(image("a wolf")))
    await dying.delete(key("a/7/1.png"))
    new, looks = ["compute/b/c/3.png", "compute/a/7/1.png"], list[str]()
    for name in ("list", "stat"):
        method = getattr(other.storage, name)

        async def look(what: ListQuery | StorageKey, method: Any = method) -> Any:
            looks.append(what.prefix.text if isinstance(what, ListQuery) else what.text)
            return await method(what)

        monkeypatch.setattr(other.storage, name, look)

    healed = await started(other).catch_up(_at_once)

    assert healed is not None
    assert (healed.written, healed.removed) == (1, 1)
    if other.healing.compares_saves:  # a disk
        changed = {"compute/b/c/", "compute/a/7/", *new}
        assert changed <= set(looks)
        # A folder has changed as well when one was made in it.
        assert set(looks) <= changed | {"compute/", "compute/a/", "compute/b/", "media/"}
    else:
        assert sorted(looks) == sorted(["compute/", "media/", *new])
