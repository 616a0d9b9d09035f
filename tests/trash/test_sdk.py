"""The trash with the SDK and the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Ran, ran
from running import Server, running
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.errors import PathConflict, TrashNotFound

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
