"""Uploads with grants to the server itself: files in the data directory."""

import asyncio
import errno
import os
import re
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client import REGISTRY

from grants.conftest import GRANTS, IMAGES, PNG, Opens, Site, checksum_of, sha256_of
from stillroom.errors import BackendUnavailable
from stillroom.features.grants.completed import CompletedGrants
from stillroom.features.grants.grant import UploadGrant
from stillroom.features.grants.service import Grants
from stillroom.store.api.images import ImageOperations
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.background import Stopping
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.values import SaveRules
from waiting import eventually


@pytest.fixture
def kind() -> str:
    return "disk"


async def test_the_url_is_signed_and_belongs_to_this_server(site: Site) -> None:
    grant = await site.grant("a.png", content_type="image/png")

    pattern = (
        r"http://127\.0\.0\.1:8000/api/v1/storage/upload-grants/[0-9a-f]{32}"
        r"\?size=2056&content_type=image%2Fpng&expires=\d+&kid=[0-9a-f]{16}&signature=[A-Za-z0-9_-]{43}"
    )
    assert re.fullmatch(pattern, grant["url"])


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("size=2056", "size=2057"),
        ("size=2056&", ""),
        ("content_type=image%2Fpng", "content_type=text%2Fhtml"),
        ("expires=1", "expires=9"),
        ("upload-grants/", "upload-grants/x"),
        ("?size", "?a=b&size"),
        ("signature=", "signature=A"),
    ],
)
async def test_a_changed_url_is_refused(site: Site, there: str, instead: str) -> None:
    grant = await site.grant("a.png", content_type="image/png")
    assert there in grant["url"]
    grant["url"] = grant["url"].replace(there, instead)

    answer = await site.put(grant)

    assert answer.status_code == 403
    assert answer.json()["code"] == "grant_invalid"
    assert site.uploads() == []


@pytest.mark.parametrize(
    "name",
    ["../../compute/a.png", "..%2f..%2fcompute%2fa.png", "%00", "a/b", ".", "", "x" * 300, "%FF"],
)
async def test_no_name_leads_out_of_the_folder_of_uploads(site: Site, name: str) -> None:
    grant = await site.grant("a.png")
    found = re.search(r"/([0-9a-f]{32})\?", grant["url"])
    assert found is not None
    query = urlsplit(grant["url"]).query
    transport = httpx.ASGITransport(site.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as anyone:
        answer = await anyone.put(
            httpx.URL(f"http://127.0.0.1:8000{GRANTS}/").copy_with(
                raw_path=f"{GRANTS}/{name}?{query}".encode()
            ),
            content=PNG,
            headers=grant["headers"],
        )

    assert answer.status_code in (403, 404, 405)
    assert site.uploads() == []


async def test_a_chunked_upload_may_have_no_other_size(site: Site) -> None:
    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 100):
            yield data[at : at + 100]

    grant = await site.grant("a.png")
    transport = httpx.ASGITransport(site.app)
    async with httpx.AsyncClient(transport=transport) as anyone:
        for data, status in ((PNG[:-1], 422), (PNG + b"x", 413), (PNG, 200)):
            answer = await anyone.put(grant["url"], content=pieces(data), headers=grant["headers"])
            assert answer.status_code == status, answer.text
    assert answer.json() == {"size": len(PNG), "sha256": sha256_of(PNG)}


async def test_a_file_is_uploaded_by_one_request_at_a_time(site: Site) -> None:
    grant = await site.grant("a.png")
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield PNG[:9]
        began.set()
        await goes_on.wait()
        yield PNG[9:]

    first = asyncio.create_task(site.put(grant, pieces()))
    await began.wait()
    second = await site.put(grant, PNG)
    goes_on.set()

    assert (second.status_code, (await first).status_code) == (503, 200)
    assert (await site.complete(grant)).status_code == 200


async def test_the_image_has_its_hash_even_if_none_was_declared(site: Site) -> None:
    saved = (await site.complete(await site.upload("a.png"))).json()

    assert saved["sha256"] == sha256_of(PNG)


async def test_the_image_is_the_file_that_was_uploaded(site: Site) -> None:
    grant = await site.upload("a/b.png")
    (upload,) = (site.data / ".stillroom" / "uploads").iterdir()
    inode = upload.stat().st_ino

    await site.complete(grant)

    image = site.data / "compute" / "a" / "b.png"
    assert image.stat().st_ino == inode
    assert image.stat().st_nlink == 1
    assert os.listdir(site.data / ".stillroom" / "staging") == []


async def test_uploads_survive_a_restart(opens: Opens) -> None:
    async with opens() as site:
        grant = await site.upload("a.png")
    async with opens() as site:
        assert site.uploads() != []
        assert (await site.complete(grant)).status_code == 200


def abandoned() -> float:
    labels = {"event": "abandoned"}
    return REGISTRY.get_sample_value("stillroom_upload_grants_total", labels) or 0


async def test_what_is_not_completed_for_a_day_is_deleted_and_counted(opens: Opens) -> None:
    async with opens() as site:
        for path in ("old.png", "new.png"):
            await site.upload(path)
        folder = site.data / ".stillroom" / "uploads"
        old, new = sorted(folder.iterdir())
        long_ago = time.time() - 24 * 3600 - 1
        os.utime(old, (long_ago, long_ago))
        (folder / "link").symlink_to(site.data / "compute")
        os.mkfifo(folder / "pipe")
        before = abandoned()
    async with opens(STILLROOM_SWEEP_INTERVAL_SECONDS="0.05") as site:
        await eventually(lambda: not old.exists())
        assert site.uploads() == sorted([new.name, "link", "pipe"])
    assert abandoned() > before
    assert (site.data / "compute").exists()


async def test_thousands_of_uploads_are_swept(tmp_path: Path) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path, durable=False), SaveRules(1000))
    images = ImageOperations(storage, lambda _: Grant.everything(), "http://a", 1000)
    completed = CompletedGrants(tmp_path / ".stillroom" / "grants")
    signer = UrlSigner(["s" * 32])
    grants = Grants(images, storage.uploads, signer, "http://a", completed, None, False, 1000)
    folder = tmp_path / ".stillroom" / "uploads"
    folder.mkdir()
    long_ago = time.time() - 24 * 3600 - 60
    for number in range(2500):
        file = folder / f"{number:032x}"
        file.write_bytes(b"x")
        if number:
            os.utime(file, (long_ago, long_ago))

    await grants.sweep(Stopping())

    assert [file.name for file in folder.iterdir()] == ["0" * 32]
    await storage.close()


async def test_the_responses_of_old_grants_are_deleted(tmp_path: Path) -> None:
    now = int(time.time())
    completed = CompletedGrants(tmp_path / "grants")
    completed.sweep()
    old, new = (
        UploadGrant(id=name * 32, path="a", size=1, expires_at=now - hours * 3600)
        for name, hours in (("0", 25), ("1", 23))
    )
    for grant in (old, new):
        async with completed.hold(grant) as found:
            assert found is None
            completed.add(grant, {"path": "a"})

    completed.sweep()

    assert os.listdir(tmp_path / "grants") == [new.id]
    async with completed.hold(new) as found:
        assert found == {"path": "a"}


async def test_a_grant_is_completed_even_if_that_cannot_be_remembered(site: Site) -> None:
    (site.data / ".stillroom" / "grants").write_bytes(b"in the way")
    grant = await site.upload("a.png")

    assert (await site.complete(grant)).status_code == 200
    assert await site.read("a.png") == PNG


async def test_a_folder_is_flushed_before_an_interrupted_completion_is_acknowledged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = await site.upload("a/b.png")
    assert (await site.complete(grant)).status_code == 200
    (response,) = (site.data / ".stillroom" / "grants").iterdir()
    response.unlink()  # as if the process had been killed right after it linked the file
    flushed: list[int] = []
    sync_folder = DataDirectory.sync_folder

    def watched(directory: DataDirectory, fd: int) -> None:
        flushed.append(os.fstat(fd).st_ino)
        sync_folder(directory, fd)

    monkeypatch.setattr(DataDirectory, "sync_folder", watched)
    assert (await site.complete(grant)).status_code == 200

    assert (site.data / "compute" / "a").stat().st_ino in flushed


async def test_no_completion_is_acknowledged_after_a_flush_has_failed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.save("a/a.png")
    grant = await site.upload("a/b.png")
    fsync = os.fsync

    def fail_for_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail_for_folders)
        assert (await site.complete(grant)).status_code == 503
    assert (site.data / "compute" / "a" / "b.png").exists()

    # The kernel reports success the next time, although nothing was written.
    assert (await site.complete(grant)).status_code == 503
    assert len(site.uploads()) == 1


async def test_a_planted_link_is_never_completed_or_followed(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    grant = await site.grant("a.png")
    found = re.search(r"/([0-9a-f]{32})\?", grant["url"])
    assert found is not None
    folder = site.data / ".stillroom" / "uploads"
    folder.mkdir(exist_ok=True)
    (folder / found[1]).symlink_to(secret)

    put, completed = await site.put(grant), await site.complete(grant)

    assert put.status_code in (409, 412)
    assert completed.status_code == 409
    assert secret.read_bytes() == PNG
    assert not await site.exists("a.png")


async def test_a_folder_of_uploads_that_is_a_link_is_refused(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (site.data / ".stillroom" / "uploads").symlink_to(elsewhere)

    answer = await site.put(await site.grant("a.png"))

    assert answer.status_code in (409, 503)
    assert list(elsewhere.iterdir()) == []


async def test_the_free_space_is_kept(opens: Opens) -> None:
    async with opens(STILLROOM_MIN_FREE_BYTES=str(2**62)) as site:
        answer = await site.put(await site.grant("a.png"))
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert site.uploads() == []


async def test_without_extended_attributes_nothing_is_granted(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataDirectory, "_probe_attributes", lambda _: False)
    async with opens() as site:
        answer = await site.ask("a.png", 1)
        assert answer.status_code == 501
        assert "extended attributes" in answer.json()["detail"]


async def test_it_works_without_nameless_files(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataDirectory, "_probe_nameless_files", lambda _: False)
    async with opens() as site:
        await site.save("a.png", b"old")
        assert (await site.complete(await site.upload("a.png"))).status_code == 200
        assert await site.read("a.png") == PNG
        assert os.listdir(site.data / ".stillroom" / "staging") == []


async def test_an_image_that_was_edited_by_hand_is_another_one(site: Site) -> None:
    grant = await site.upload("a.png")
    await site.complete(grant)
    (site.data / "compute" / "a.png").write_bytes(b"edited")

    answer = await site.complete(grant)

    assert answer.json()["code"] == "grant_spent"


async def test_a_failed_sync_acknowledges_nothing(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opens() as site:
        grant = await site.upload("a.png")

        def fail(*_: object) -> None:
            raise BackendUnavailable("the disk failed")

        with monkeypatch.context() as patched:
            patched.setattr(DataDirectory, "sync", fail)
            assert (await site.put(await site.grant("b.png"))).status_code == 503
            assert (await site.complete(grant)).status_code == 503
        assert not await site.exists("a.png")
        assert (await site.complete(grant)).status_code == 200


async def test_a_page_on_another_origin_may_upload(opens: Opens) -> None:
    async with opens(STILLROOM_CORS_ORIGINS="https://app.example.com") as site:
        grant = await site.grant("a.png", content_type="image/png", sha256=sha256_of(PNG))
        names = ", ".join(name.lower() for name in sorted(grant["headers"]))
        answer = await site.client.options(
            grant["url"],
            headers={
                "origin": "https://app.example.com",
                "access-control-request-method": "PUT",
                "access-control-request-headers": names,
            },
        )
        assert answer.status_code == 200, answer.text
        assert grant["headers"]["x-amz-checksum-sha256"] == checksum_of(PNG)


async def test_nothing_secret_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    grant = await site.upload("a.png")
    await site.complete(grant)
    await site.complete(grant["grant"][:-1] + "x")
    await site.put({**grant, "url": grant["url"][:-1]})

    own = [record.getMessage() for record in caplog.records if record.name.startswith("stillroom")]
    assert not any("signature=" in line or grant["grant"] in line for line in own)


async def test_other_methods_are_refused(site: Site) -> None:
    grant = await site.upload("a.png")
    transport = httpx.ASGITransport(site.app)
    async with httpx.AsyncClient(transport=transport) as anyone:
        for method in ("GET", "HEAD", "POST", "DELETE", "PATCH"):
            answer = await anyone.request(method, grant["url"])
            assert answer.status_code == 405, method
    assert (await site.client.get(f"{IMAGES}/.stillroom/uploads")).status_code == 404


async def test_a_folder_in_the_way_is_a_conflict(site: Site) -> None:
    await site.save("a/b.png")
    grant = await site.upload("a")

    answer = await site.complete(grant)

    assert (answer.status_code, answer.json()["code"]) == (409, "path_conflict")
