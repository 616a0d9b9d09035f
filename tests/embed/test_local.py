"""The store in a plain process: the SDK's names, without a server."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from pictures import picture
from running import running
from stillroom.errors import ConfigurationError, ImageNotFound, InvalidPath, ResourceNotFound
from stillroom.features.library.resource import Change, ResourceQuery
from stillroom.local import LocalImageStore, open_store
from waiting import until_equal

PNG = picture(size=(40, 30))
_THREADED_FORK = "ignore:This process:DeprecationWarning"


@pytest.fixture
def store(variables: dict[str, str]) -> LocalImageStore:
    assert variables["STILLROOM_DATA_DIR"] == os.environ["STILLROOM_DATA_DIR"]
    return open_store()


def test_it_has_the_names_of_the_sdk(store: LocalImageStore, tmp_path: Path) -> None:
    with store:
        large, seen = os.urandom(20 * 1024**2), list[int]()
        saved = store.save("a/ü b.png", PNG)
        assert saved.url == "http://127.0.0.1:8000/api/v1/storage/images/a/%C3%BC%20b.png"
        store.save("a/large", large, progress=lambda event: seen.append(event.done))
        assert seen[-1] == len(large)
        assert store.save_unless_same("a/ü b.png", PNG).skipped
        assert store.read("a/large") == large
        store.download("a/ü b.png", tmp_path / "found.png")
        assert (tmp_path / "found.png").read_bytes() == PNG
        assert store.stat("a/ü b.png").etag == saved.etag
        store.move("a/large", "b/large")
        assert list(store.iter()) == ["a/ü b.png", "b/large"]
        assert [entry.path for entry in store.level()] == ["a/", "b/"]
        assert store.delete_many(["b/large", "none"]) == 1
        assert not store.exists("b/large")
        with pytest.raises(ImageNotFound):
            store.delete("b/large")
        with pytest.raises(InvalidPath):
            store.save("/etc/passwd", PNG)
    assert store.read("a/ü b.png") == PNG  # closed, and used again
    store.close()


def test_it_has_the_media_library(store: LocalImageStore) -> None:
    with store:
        store.save("a.png", PNG)
        resource = store.media.ingest_from_storage_key("compute/a.png", relocate=True)
        assert (resource.width, resource.height) == (40, 30)
        assert store.ingest("a.png").id == str(resource.id)
        changed = store.media.change(resource.id, Change(caption="a picture"))
        assert store.media.find(resource.id) == changed
        assert store.media.page(ResourceQuery(limit=10)).resources == [changed]
        store.media.delete(resource.id)
        with pytest.raises(ResourceNotFound):
            store.media.find(resource.id)


def test_what_it_saves_and_deletes_is_searched_soon(store: LocalImageStore) -> None:
    def wait_for(expected: list[str]) -> None:
        until_equal(lambda: [image.path for image in store.search("fox")], expected)

    with store:
        store.save("a.png", PNG, generation={"prompt": "a red fox"})
        wait_for(["a.png"])
        store.delete("a.png")
        wait_for([])


def test_what_a_script_saves_last_is_searched_once_it_has_closed(store: LocalImageStore) -> None:
    with store:
        list(store.search("fox"))  # so that the database is open, however slow this machine is
        store.save("a.png", PNG, generation={"prompt": "a red fox"})
    with store:
        assert [image.path for image in store.search("fox")] == ["a.png"]


def test_threads_share_it(store: LocalImageStore) -> None:
    begin = threading.Barrier(8)

    def save(number: int) -> None:
        begin.wait()
        for again in range(5):
            store.save(f"{number}/{again}", bytes([number, again]))

    with store, ThreadPoolExecutor(8) as threads:
        list(threads.map(save, range(8)))
        assert len(list(store.iter())) == 40
        assert store.read("7/4") == bytes([7, 4])


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", ["disk", pytest.param("bucket", marks=pytest.mark.whole)], indirect=True
)
@pytest.mark.usefixtures("variables")
def test_a_child_that_inherits_it_opens_its_own() -> None:
    """Celery forks its workers after it has imported the tasks."""
    script = """
import os
from stillroom.local import open_store
store = open_store()
{use}
for name in ("one", "two"):
    if not os.fork():
        store.save(name, name.encode())
        store.media.ingest_from_storage_key("compute/a.png")
        os._exit(0 if store.read(name) == name.encode() else 1)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)], sorted(store.iter()))
"""
    with open_store() as store:
        store.save("a.png", PNG)
    for use in ("", 'store.save("parent", b"x"); store.ingest("a.png")'):
        ran = subprocess.run(
            # Python 3.12 and newer warn of each fork of a process that has threads, as this one has
            # once it was used. That the children work all the same is what this test is about.
            [sys.executable, "-W", _THREADED_FORK, "-c", script.replace("{use}", use)],
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        names = ["a.png", "one", "parent", "two"] if use else ["a.png", "one", "two"]
        assert (ran.stdout, ran.stderr) == (f"[0, 0] {names}\n", "")


@pytest.mark.slow
def test_a_server_and_a_script_see_what_the_other_does(
    store: LocalImageStore, tmp_path: Path
) -> None:
    with store, running(tmp_path, data=tmp_path / "data") as server, server.client() as client:
        images = "/api/v1/storage/images"
        store.save("a/1.png", PNG)
        assert client.get(images).json() == ["a/1.png"]
        client.post(f"{images}/a/2.png", files={"file": b"two"}).raise_for_status()
        assert list(store.iter()) == ["a/1.png", "a/2.png"]
        store.delete("a/2.png")
        assert client.get(images).json() == ["a/1.png"]
        assert client.head(f"{images}/a/2.png").status_code == 404
        resource = store.media.ingest_from_storage_key("compute/a/1.png")
        found = client.get(f"/api/v1/media-resources/{resource.id}").json()
        assert found["content_hash"] == resource.content_hash.hex()
        query = store.signed_url("a/1.png").partition("?")[2]
        del client.headers["authorization"]
        opened = client.get(f"{images}/a/1.png?{query}", follow_redirects=True)
        assert opened.content == PNG
        link = store.signed_url(archive="a/").partition("/api/")[2]
        assert client.get(f"/api/{link}").content.startswith(b"PK")


def test_settings_that_cannot_work_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="R2_BUCKET_NAME"):
        open_store(tmp_path, r2_endpoint_url="https://bucket.example")
    with pytest.raises(ConfigurationError, match="no such setting: colour"):
        open_store(tmp_path, colour="red")


def test_it_has_runs_and_ends(store: LocalImageStore) -> None:
    with store:
        with store.run("generations/7") as run:
            run.save("a.png", PNG, expires_in=timedelta(hours=1))
            run.save("b.png", PNG)
        assert run.published is not None
        assert [found.count for found in store.runs("generations/")] == [2]
        deleted = run.delete()
        assert (deleted.marked, deleted.kept) == (2, 0)
