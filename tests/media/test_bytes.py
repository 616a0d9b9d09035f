"""What an ingest reads: as little as it can, and everything where nobody knows the hash."""

import hashlib
from pathlib import Path

import pytest

from contract.images import read_key
from media.library import Library, key
from pictures import picture
from services.s3 import Operator
from stillroom.features.database.config import SqliteConfig
from stillroom.store.port import ImageStorage
from stillroom.store.s3.calls import BucketResponse, Call
from stillroom.store.s3.client import BucketClient

LARGE = picture(size=(1500, 1500), compress_level=0)


class Wire:
    """Counts the bytes of bodies between this process and the bucket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.carried = 0
        self.calls: list[str] = []
        send = BucketClient.send

        async def counted(
            client: BucketClient, call: Call, *, deadline: float | None = None
        ) -> BucketResponse:
            answer = await send(client, call, deadline=deadline)
            self.calls.append(call.operation)
            self.carried += len(call.body) + len(answer.body)
            return answer

        monkeypatch.setattr(BucketClient, "send", counted)


@pytest.mark.slow
async def test_of_a_known_image_only_both_ends_pass_through_this_process(
    bucket: ImageStorage, sqlite: SqliteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(bucket, sqlite)
    await library.save("a.png", LARGE)
    wire = Wire(monkeypatch)

    resource = await library.ingest("a.png")

    assert len(LARGE) > 6 * 1024**2
    # The header, and behind the pixels of a PNG perhaps the mark of AI: 64 and 256 KiB.
    assert wire.carried < 330 * 1024
    assert wire.calls == ["HeadObject", "GetObject", "GetObject", "HeadObject", "CopyObject"]
    assert hashlib.sha256(await read_key(bucket, resource.storage_key)).digest() == (
        resource.content_hash
    )
    await library.database.close()


@pytest.mark.slow
async def test_an_object_that_another_tool_has_put_there_is_hashed_in_parts(
    bucket: ImageStorage,
    sqlite: SqliteConfig,
    operator: Operator,
) -> None:
    library = Library(bucket, sqlite)
    operator.put("compute/a.png", LARGE)

    resource = await library.ingest("a.png")

    assert resource.content_hash == hashlib.sha256(LARGE).digest()
    assert resource.content_type == "image/png"
    await library.check()
    await library.database.close()


@pytest.mark.slow
async def test_what_a_cdn_serves_of_the_library_is_kept_for_a_year(
    bucket: ImageStorage, sqlite: SqliteConfig, operator: Operator
) -> None:
    library = Library(bucket, sqlite)
    await library.save("a.png", picture())

    resource = await library.ingest("a.png")

    served = operator.send("HEAD", f"/stillroom/{resource.storage_key.text}")
    assert served.headers["cache-control"] == "public, max-age=86400, immutable"
    assert served.headers["content-type"] == "image/png"
    await library.database.close()


@pytest.mark.parametrize("relocate", [True, False])
async def test_a_file_that_was_copied_in_by_hand_is_hashed(
    disk: ImageStorage, sqlite: SqliteConfig, tmp_path: Path, *, relocate: bool
) -> None:
    library = Library(disk, sqlite)
    (tmp_path / "data/compute/a.png").write_bytes(LARGE)

    resource = await library.ingest("a.png", relocate=relocate)

    assert resource.content_hash == hashlib.sha256(LARGE).digest()
    assert resource.save_id == (await disk.stat(resource.storage_key)).save_id
    await library.check()
    await library.database.close()


@pytest.mark.parametrize("renamed", [True, False], ids=["renamed over it", "written into it"])
async def test_a_file_without_a_known_hash_that_is_replaced_while_it_is_copied_is_copied_again(
    disk: ImageStorage, sqlite: SqliteConfig, tmp_path: Path, *, renamed: bool
) -> None:
    library = Library(disk, sqlite)
    file = tmp_path / "data/compute/a.png"
    file.write_bytes(picture(1))

    async def replace() -> None:
        library.meddled.before_copy = None
        if renamed:
            (tmp_path / "other.png").write_bytes(picture(2))
            (tmp_path / "other.png").rename(file)
        else:
            file.write_bytes(picture(2))

    library.meddled.before_copy = replace

    resource = await library.ingest("a.png")

    assert await library.read(resource.storage_key) == picture(2)
    assert resource.content_hash == hashlib.sha256(picture(2)).digest()
    await library.check()
    await library.database.close()


async def test_a_copy_is_no_hard_link(
    disk: ImageStorage, sqlite: SqliteConfig, tmp_path: Path
) -> None:
    library = Library(disk, sqlite)
    await library.save("a.png", picture())

    resource = await library.ingest("a.png")

    assert (tmp_path / "data" / resource.storage_key.text).stat().st_nlink == 1
    assert (tmp_path / "data" / key("a.png").text).stat().st_nlink == 1
    await library.database.close()
