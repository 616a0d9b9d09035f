"""The trash with the SDK and the command line."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Ran, ran
from running import Server, running
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.errors import PathConflict, TrashNotFound
from waiting import until

pytestmark = pytest.mark.slow

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("trash"), trash="7d", jwt_secret="s" * 32) as found:
        yield found


def test_the_sdk_restores_what_it_deleted_last(server: Server) -> None:
    with ImageStore(server.url, server.token()) as store:
        for data in (b"first", b"second"):
            store.save("sync/a.png", data)
            store.delete("sync/a.png")
        assert [item.path for item in store.trash("sync/")] == ["sync/a.png"] * 2

        store.undelete("sync/a.png")

        assert store.read("sync/a.png") == b"second"
        with pytest.raises(PathConflict):
            store.undelete("sync/a.png")
        store.move("sync/a.png", "sync/b.png")
        store.delete("sync/b.png", purge=True)
        (left,) = store.trash("sync/")
        store.purge(left)
        with pytest.raises(TrashNotFound):
            store.undelete("sync/a.png")


async def test_the_asynchronous_sdk_restores_a_run(server: Server) -> None:
    async with AsyncImageStore(server.url, server.token()) as store:
        async with store.run("async/7") as run:
            await run.save("a.png", PNG)
        deleted = await run.delete()
        (item,) = [item async for item in store.trash("async/")]
        assert (item.id, item.path, item.count) == (deleted.trash_id, "async/7", 1)

        await store.undelete("async/7")

        assert (await run.read()).state == "published"


def test_the_commands_list_restore_and_empty_the_trash(server: Server, tmp_path: Path) -> None:
    with ImageStore(server.url, server.token()) as store:
        for name in "ab":
            store.save(f"cli/{name}.png", PNG)
            store.delete(f"cli/{name}.png")
        to = {"STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()}

        def trash(*words: str) -> Ran:
            return ran(tmp_path, ("trash", *words), to)

        listed = trash("ls", "cli/")
        assert [line.split()[-1] for line in listed.out.splitlines()] == ["cli/b.png", "cli/a.png"]
        assert trash("restore", "cli/a.png").code == 0
        assert store.read("cli/a.png") == PNG
        assert trash("empty", "cli/").code == 2
        assert trash("empty", "cli/", "--yes").code == 0
        assert list(store.trash("cli/")) == []
        assert trash("empty", "cli/") == Ran(0, "", "nothing was deleted\n")


def test_a_deletion_of_a_run_names_the_trash(server: Server, tmp_path: Path) -> None:
    to = {"STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()}
    with ImageStore(server.url, server.token()) as store:
        with store.run("named/7") as run:
            run.save("a.png", PNG)

        deleted = ran(tmp_path, ("runs", "rm", "named/7", "--yes"), to)

        assert deleted.code == 0
        assert deleted.err.startswith("1 image moved to the trash (`stillroom trash ls`")


def test_a_recursive_deletion_is_undone(server: Server, tmp_path: Path) -> None:
    to = {"STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()}

    def stillroom(*words: str) -> Ran:
        return ran(tmp_path, words, to)

    with ImageStore(server.url, server.token()) as store:
        for content in (b"old", b"new"):
            for path in ("all/a.png", "all/in/b.png", "all/7/c.png", "all-else/d.png"):
                store.save(path, content)
            if content == b"new":
                store.publish_run("all/7")
                store.run("all/7").delete()
                until(lambda: not store.exists("all/7/c.png"))
            assert stillroom("rm", "-r", "--yes", "all", "all-else").code == 0
        store.save("all/a.png", b"newer")

        planned = stillroom("trash", "restore", "all/", "--dry-run")
        restored = stillroom("trash", "restore", "all/")

        paths = ["all/7", "all/a.png", "all/in/b.png"]
        assert sorted(planned.out.split()[2::3]) == paths
        assert restored.code == 1
        assert restored.err.startswith("failed all/a.png: an image exists at")
        assert "2 restored, 0 unchanged, 1 failed" in restored.err
        assert store.read("all/a.png") == b"newer"
        assert store.read("all/in/b.png") == store.read("all/7/c.png") == b"new"
        assert store.run("all/7").read().state == "published"
        store.run("all/7").delete()
        until(lambda: not store.exists("all/7/c.png"))
        assert stillroom("trash", "restore", "all/7/").code == 0
        assert store.read("all/7/c.png") == b"new"
        assert not store.exists("all-else/d.png")

        assert "1 restored" in stillroom("trash", "restore", "-r", "all-else").err
        (older,) = store.trash("all/in/")
        store.delete("all/in/b.png")
        assert stillroom("trash", "restore", older.id).code == 0
        assert store.read("all/in/b.png") == b"old"
        store.delete("all/in/b.png")
        assert stillroom("trash", "restore", "all/in").out == "restored all/in/b.png\n"


def test_what_the_trash_lacks_is_explained(server: Server, tmp_path: Path) -> None:
    to = {"STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()}

    for text in ("NOT-AN-ID", "none/", str(uuid.UUID(int=0))):
        refused = ran(tmp_path, ("trash", "restore", text), to)

        assert refused == Ran(
            3,
            "",
            f"stillroom: {text}: nothing in the trash has this path, folder or id "
            "(`stillroom trash ls` shows paths and, with --json, ids)\n",
        )
