"""Events about images: one for each change of a row, with its actor and its reason."""

import asyncio
from pathlib import Path

import pytest

from contract.images import RULES
from events.feed import Feed, told
from generation.carriers import png
from media.library import key
from stillroom.errors import BackendUnavailable
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search import catching_up, comparing, filling
from stillroom.features.search.catching_up import CatchingUp
from stillroom.features.search.database import search_rows
from stillroom.features.search.filling import read_facts
from stillroom.features.search.healing import IndexHealing
from stillroom.features.search.values import Removed
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.causes import Cause
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import EntryPage, ListQuery, OpenedImage
from waiting import eventually

SAVED = "image.saved"
DELETED = "image.deleted"


async def never(_: float) -> bool:
    return False


async def test_each_change_of_an_image_is_an_event(feed: Feed) -> None:
    await feed.save("a/1.png", b"first", by="user-7")
    await feed.becomes((SAVED, "a/1.png"))
    await feed.save("a/1.png", b"second", by="user-8")
    await feed.becomes(*[(SAVED, "a/1.png")] * 2)
    await feed.storage.copy(key("a/1.png"), key("b/2.png"))
    await feed.becomes(*[(SAVED, "a/1.png")] * 2, (SAVED, "b/2.png"))
    await feed.delete("a/1.png", Cause("user-9", "request"))
    found = await feed.becomes(*[(SAVED, "a/1.png")] * 2, (SAVED, "b/2.png"), (DELETED, "a/1.png"))

    image = await feed.storage.stat(key("b/2.png"))
    assert [event.actor for event in found] == ["user-7", "user-8", None, "user-9"]
    assert [event.reason for event in found] == [None, None, None, "request"]
    assert not any(event.found for event in found)
    shown = found[2].as_json()
    assert shown["id"] == f"evt_{found[2].id.hex}"
    assert shown["data"] == {
        "path": "b/2.png",
        "etag": image.etag,
        "sha256": (image.sha256 or b"").hex(),
        "size": 6,
        "content_type": image.content_type,
        "run": None,
        "ai_mark": found[2].data["ai_mark"],
    }
    assert found[3].as_json()["data"] == {"path": "a/1.png", "reason": "request"}
    assert str(shown["timestamp"]).endswith("Z")


async def test_an_image_that_is_deleted_within_its_batch_is_no_event(feed: Feed) -> None:
    await feed.save("a.png")
    await feed.delete("a.png")
    await feed.save("b.png")

    await feed.becomes((SAVED, "b.png"))


async def test_a_repeated_removal_and_a_late_older_save_are_no_events(feed: Feed) -> None:
    rows = await search_rows(feed.database)
    await feed.save("a.png", b"older")
    older = await read_facts(feed.storage, await feed.storage.stat(key("a.png")))
    await feed.save("a.png", b"newer")
    newer = await read_facts(feed.storage, await feed.storage.stat(key("a.png")))
    await feed.becomes((SAVED, "a.png"))

    await rows.write([older])
    await rows.write([newer])
    await rows.write([newer], certain=True)
    await rows.write([], [Removed(key("a.png"), older.image.modified_ns - 1)])
    assert told(await feed.events()) == [(SAVED, "a.png")]
    removed = Removed(key("a.png"), newer.image.modified_ns, Cause(None, "expired"))
    for _ in range(2):
        await rows.write([], [removed])

    found = await feed.events()
    assert told(found) == [(SAVED, "a.png"), (DELETED, "a.png")]
    assert found[-1].reason == "expired"


async def test_files_of_the_media_library_are_no_events(feed: Feed) -> None:
    await feed.storage.save(key("a.png"), BytesSource(b"bytes"))
    media = type(key("a.png"))("media/0/file.png")
    await feed.storage.copy(key("a.png"), media)
    await feed.becomes((SAVED, "a.png"))
    await feed.storage.delete(media)
    await feed.save("b.png")

    await feed.becomes((SAVED, "a.png"), (SAVED, "b.png"))


async def test_what_other_tools_change_is_found(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "SETTLED_NS", 0)
    healing = IndexHealing(feed.storage, feed.database, compares_saves=True)
    await feed.save("a/1.png", by="user-7")
    await feed.becomes((SAVED, "a/1.png"))
    folder = tmp_path / "data" / "images"
    folder = folder if folder.exists() else tmp_path / "data"
    (file,) = folder.rglob("1.png")
    (file.parent / "2.png").write_bytes(b"copied by hand")
    file.unlink()

    await healing.rebuild(never, restart=True, progress=lambda _: None)

    first, *found = await feed.events()
    assert sorted(told(found)) == [(DELETED, "a/1.png"), (SAVED, "a/2.png")]
    assert (first.found, first.actor) == (False, "user-7")
    assert all(event.found and event.actor is None for event in found)
    assert [event.reason for event in found if event.type == DELETED] == ["external"]


@pytest.mark.parametrize("is_rebuild", [False, True])
async def test_a_comparison_keeps_what_is_saved_while_it_reads(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_rebuild: bool
) -> None:
    monkeypatch.setattr(comparing, "SETTLED_NS", 0)
    names = ["gone.png", "listed.png", "replaced.png"]
    for name in names:
        await feed.save(name)
    await feed.becomes_many(3)
    for name in ("gone.png", "replaced.png"):  # by other tools
        (file,) = (tmp_path / "data").rglob(name)
        file.unlink()
    file.write_bytes(b"copied by hand")
    entries, opened, waiting = feed.storage.entries, feed.storage.open, [*names]

    async def list_and_replace(query: ListQuery) -> EntryPage:
        page = await entries(query)
        if "listed.png" in waiting:
            waiting.remove("listed.png")
            await feed.save("listed.png", b"newer")
            await feed.becomes_many(4)
        return page

    async def open_and_replace(key: StorageKey) -> OpenedImage:
        if len(waiting) == 2:
            for name in [waiting.pop(), waiting.pop()]:
                await feed.save(name, b"newer")
            await feed.becomes_many(6)
        return await opened(key)

    monkeypatch.setattr(feed.storage, "entries", list_and_replace)
    monkeypatch.setattr(feed.storage, "open", open_and_replace)
    healing = IndexHealing(feed.storage, feed.database, compares_saves=True)

    if is_rebuild:
        await healing.rebuild(never, restart=True, progress=lambda _: None)
    else:
        await healing.heal(never)

    assert waiting == []
    assert sorted(told(await feed.events())) == [(SAVED, name) for name in sorted(names * 2)]
    for name in names:
        row = await (await search_rows(feed.database)).find(key(name))
        assert row is not None
        assert row.image.save_id == (await feed.storage.stat(key(name))).save_id, name


async def test_a_save_whose_metadata_cannot_be_read_is_an_event_at_once(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await feed.save("a.png", by="user-7")
    await feed.becomes((SAVED, "a.png"))
    opened, is_away = feed.storage.open, True

    async def open_if_there(key: StorageKey) -> OpenedImage:
        if is_away:
            raise BackendUnavailable("away")
        return await opened(key)

    monkeypatch.setattr(feed.storage, "open", open_if_there)
    monkeypatch.setattr(filling, "_READ_AGAIN_S", 0.05)
    monkeypatch.setattr(filling, "_MAX_NOTED_BYTES", 0)  # so that the file must be read again
    await feed.save("a.png", png({"parameters": "a wolf\nSteps: 20, Seed: 7"}), by="user-8")

    found = await feed.becomes(*[(SAVED, "a.png")] * 2)
    saved = await feed.storage.stat(key("a.png"))
    assert (found[-1].actor, found[-1].data["etag"]) == ("user-8", saved.etag)
    is_away = False
    rows = await search_rows(feed.database)

    async def has_metadata() -> bool:
        row = await rows.find(saved.key)
        return row is not None and row.metadata.generation is not None

    await eventually(has_metadata)
    assert len(await feed.events()) == 2


async def test_what_a_crash_loses_is_found_at_the_next_start(
    feed: Feed, database: MediaDatabase
) -> None:
    await feed.save("a/1.png")
    await feed.save("a/2.png")
    await feed.becomes((SAVED, "a/1.png"), (SAVED, "a/2.png"))
    feed.filling._is_running = False  # what the process queues from now on is lost
    await feed.save("a/3.png", by="user-7")
    await feed.delete("a/1.png")
    feed.filling._is_running = True

    await CatchingUp(feed.storage, database).catch_up(never)

    found = (await feed.events())[2:]
    assert sorted(told(found)) == [(DELETED, "a/1.png"), (SAVED, "a/3.png")]
    assert all(event.found and event.actor is None for event in found)


async def stops(_: float) -> bool:
    return True


async def test_a_start_with_another_storage_compares_all_images_and_reports_no_deletion(
    feed: Feed,
    database: MediaDatabase,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catching_up, "SETTLED_NS", 0)
    engine, told_before = await database.engine(), [(SAVED, "a/1.png"), (SAVED, "b.png")]
    other = open_storage(DiskConfig(tmp_path / "other", min_free_bytes=0), RULES)
    for path in ("b.png", "c/2.png"):
        await other.save(key(path), BytesSource(b"other bytes"))
    engine.storage_name = database.storage_name = "the first one"
    await feed.save("a/1.png")
    await feed.save("b.png")
    await feed.becomes(*told_before)
    rows = await search_rows(database)

    async def is_indexed(storage: ImageStorage) -> bool:
        page = await storage.entries(ListQuery(KeyPrefix("compute/")))
        found = [await rows.find(key(path)) for path in ("a/1.png", "b.png", "c/2.png")]
        return [one.image for one in found if one is not None] == [*page.images]

    await CatchingUp(feed.storage, database).catch_up(never)
    first, second = ("the first one", feed.storage), ("the second one", other)
    starts = [(second, stops), (first, never), (second, never), (first, never)]
    for (name, storage), stops_within in starts:
        assert not await is_indexed(storage)
        engine.storage_name = database.storage_name = name
        if stops_within is stops:
            healing = IndexHealing(storage, database, compares_saves=True)
            await healing.rebuild(never, restart=True, progress=lambda _: None)
        together = [CatchingUp(storage, database) for _ in range(2)]
        healed = await asyncio.gather(*(one.catch_up(stops_within) for one in together))
        assert [one.is_whole for one in healed if one is not None] == [stops_within is never]
        assert await is_indexed(storage)
        assert caplog.text.count(f"index of another storage than {name}") == 1
        caplog.clear()
    assert told(await feed.events())[:2] == told_before
    found = (await feed.events())[2:]
    paths = ["b.png", "c/2.png", "a/1.png", "b.png"] * 2
    assert sorted(told(found)) == sorted((SAVED, path) for path in paths)
    assert all(event.found for event in found)

    (file,) = (tmp_path / "data").rglob("b.png")
    file.unlink()
    await CatchingUp(feed.storage, database).catch_up(never)

    assert "another storage" not in caplog.text
    assert told(await feed.events())[10:] == [(DELETED, "b.png")]
    await other.close()


async def test_a_thousand_saves_are_a_thousand_events(feed: Feed) -> None:
    names = [f"{number}.png" for number in range(1000)]
    await asyncio.gather(*map(feed.save, names))

    found = await feed.becomes_many(len(names))

    assert sorted(str(event.path) for event in found) == sorted(names)
