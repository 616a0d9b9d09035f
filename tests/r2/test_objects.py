"""What lies in the bucket: objects with all that the CDN needs, and where a redirect leads."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from contract.images import PNG, SVG, Chunks, key
from r2.conftest import Running
from r2.traps import MIB, fetched
from services import stub_r2
from services.stub_r2 import StubR2
from stillroom.errors import BackendUnavailable, DigestMismatch, ImageNotFound
from stillroom.store.content_type import INLINE
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import RemoteImage

pytestmark = pytest.mark.clouds

# What is stored with an object


async def test_an_object_carries_what_the_cdn_needs(storage: ImageStorage, stub: StubR2) -> None:
    saved = await storage.save(key("a b/cat.png"), BytesSource(PNG))

    stored = stub.objects["compute/a b/cat.png"]
    assert stored.body == PNG
    assert stored.headers == {
        "content-type": "image/png",
        "cache-control": "public, max-age=300",
        "x-amz-meta-sha256": hashlib.sha256(PNG).hexdigest(),
        "x-amz-meta-save-id": saved.save_id,
    }


CONTENTS = [
    ("a.svg", SVG, "image/svg+xml"),
    ("a.png", SVG, "image/svg+xml"),
    ("a.jpg", b"<!DOCTYPE html><script>", "text/html"),
    ("a.xml", b"<?xml version='1.0'?><html xmlns='x'>", "text/html"),
    ("a.html", b"text <script>", "application/octet-stream"),
    ("a.txt", b"text <script>", "application/octet-stream"),
    ("a.js", b"alert(1)", "application/octet-stream"),
    ("a.pdf", b"%PDF-1.4", "application/octet-stream"),
    ("a", b"x", "application/octet-stream"),
    ("a.html", b"GIF89a/*<script>", "image/gif"),
    ("a.svg", PNG, "image/png"),
    ("a.js", b"\xff\xd8\xff<script>", "image/jpeg"),
]
IN_PARTS = [CONTENTS[1], CONTENTS[4], CONTENTS[10]]  # the same headers, sent before the first part


@pytest.mark.parametrize(
    ("name", "start", "content_type", "size"),
    [
        *(pytest.param(*content, 0, id=f"{content[0]}-one request") for content in CONTENTS),
        *(pytest.param(*content, 17 * MIB, id=f"{content[0]}-in parts") for content in IN_PARTS),
    ],
)
async def test_a_type_that_no_browser_shows_is_sent_as_an_attachment(
    storage: ImageStorage,
    stub: StubR2,
    name: str,
    start: bytes,
    content_type: str,
    size: int,
) -> None:
    await storage.save(key(name), Chunks(start, *[b" " * MIB] * (size // MIB)))

    headers = stub.objects[f"compute/{name}"].headers
    assert headers["content-type"] == content_type
    attached = content_type not in INLINE
    assert headers.get("content-disposition") == ("attachment" if attached else None)


async def test_the_etag_of_a_multipart_upload_is_not_taken_for_a_hash(
    storage: ImageStorage, stub: StubR2
) -> None:
    saved = await storage.save(key("big.bin"), Chunks(*[bytes(5 * MIB)] * 8))

    found = await storage.stat(key("big.bin"))
    assert saved.etag == found.etag == stub.objects["compute/big.bin"].etag
    assert found.etag.endswith('-3"')
    assert saved.sha256 == hashlib.sha256(bytes(40 * MIB)).digest()
    assert found.sha256 is None, "known too late for the metadata, and nobody announced it"


async def test_an_announced_hash_is_kept_with_a_multipart_upload(storage: ImageStorage) -> None:
    digest = hashlib.sha256(bytes(20 * MIB)).digest()

    await storage.save(key("big.bin"), Chunks(bytes(20 * MIB), expected_sha256=digest))

    assert (await storage.stat(key("big.bin"))).sha256 == digest


async def test_an_object_of_somebody_else_has_facts_too(
    storage: ImageStorage, stub: StubR2
) -> None:
    headers = {"content-type": "кошка"}
    stub.objects["compute/theirs.webp"] = stub_r2.Stored(b"xyz", headers, '"e"')

    found = await storage.stat(key("theirs.webp"))

    assert (found.size, found.content_type, found.sha256) == (3, "application/octet-stream", None)
    assert found.save_id.startswith('"e"-')


@pytest.mark.parametrize("etag", ["\u00e9", "\u00ff\u2028", "a b", 'a"b', "a" * 1025])
async def test_an_etag_that_is_none_is_an_answer_we_do_not_understand(
    storage: ImageStorage, stub: StubR2, etag: str
) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(PNG, {}, f'"{etag}"')

    with pytest.raises(BackendUnavailable, match="ETag"):
        await storage.stat(key("a.png"))
    with pytest.raises(BackendUnavailable, match="ETag"):
        await storage.copy(key("a.png"), key("b.png"))


async def test_a_bucket_with_a_mutilated_etag_is_a_503(running: Running, stub: StubR2) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(PNG, {}, '"\u2028"')

    async with running() as client:
        answers = [
            await client.head("/api/v1/storage/images/a.png"),
            await client.get("/api/v1/storage/entries"),
            await client.delete("/api/v1/storage/images/a.png"),
        ]

    assert [answer.status_code for answer in answers] == [503, 503, 503]


async def test_a_save_id_that_is_none_of_ours_does_not_leave_the_bucket(
    storage: ImageStorage, stub: StubR2
) -> None:
    headers = {"x-amz-meta-save-id": "caf\u00e9"}
    stub.objects["compute/a.png"] = stub_r2.Stored(PNG, headers, '"e"')

    assert (await storage.stat(key("a.png"))).save_id.startswith('"e"-')


# How a body is sent


async def test_a_body_is_sent_once_with_its_length_and_one_checksum(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), Chunks(PNG, PNG))

    (request,) = stub.requests
    assert request.headers["content-length"] == str(2 * len(PNG))
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(PNG + PNG).hexdigest()
    assert "transfer-encoding" not in request.headers
    assert not [name for name in request.headers if "trailer" in name.lower()]
    assert not [name for name in request.headers if "crc" in name.lower()]


@pytest.mark.parametrize("size", [16 * MIB, 16 * MIB + 1, 32 * MIB, 33 * MIB])
async def test_parts_are_equal_but_the_last(storage: ImageStorage, stub: StubR2, size: int) -> None:
    data = bytes(3 * MIB - 1)
    pieces = [data] * (size // len(data)) + [bytes(size % len(data))]

    await storage.save(key("big.bin"), Chunks(*pieces))

    assert len(stub.objects["compute/big.bin"].body) == size
    assert stub.operations["UploadPart"] == (0 if size == 16 * MIB else -(-size // (16 * MIB)))
    assert stub.uploads == {}


async def test_unequal_parts_are_what_the_stub_refuses(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test above proves something."""
    sizes = iter([6 * MIB, 7 * MIB, 100 * MIB])
    whole = stub_r2.StubR2._UploadPart

    def cut(self: StubR2, request: web.Request, path: str, body: bytes) -> web.Response:
        return whole(self, request, path, body[: next(sizes)])

    monkeypatch.setattr(StubR2, "_UploadPart", cut)

    with pytest.raises(BackendUnavailable) as caught:
        await storage.save(key("big.bin"), Chunks(bytes(40 * MIB)))

    assert "InvalidPart" in str(caught.value.__cause__)
    await storage.close()
    assert stub.uploads == {}


async def test_a_failed_part_aborts_the_upload(storage: ImageStorage, stub: StubR2) -> None:
    with pytest.raises(ConnectionError):
        await storage.save(key("big.bin"), Chunks(bytes(40 * MIB), breaks=ConnectionError()))

    await storage.close()
    assert stub.operations["CreateMultipartUpload"] == 1
    assert stub.operations["AbortMultipartUpload"] == 1
    assert (stub.uploads, stub.objects) == ({}, {})


async def test_a_wrong_hash_is_found_before_a_multipart_upload_becomes_visible(
    storage: ImageStorage, stub: StubR2
) -> None:
    with pytest.raises(DigestMismatch):
        await storage.save(key("big.bin"), Chunks(bytes(20 * MIB), expected_sha256=bytes(32)))

    await storage.close()
    assert stub.operations["CompleteMultipartUpload"] == 0
    assert (stub.uploads, stub.objects) == ({}, {})


async def test_small_ones_use_the_memory_that_large_ones_do_not_want(
    storage: ImageStorage, stub: StubR2
) -> None:
    """Else sixteen of 1 MiB would be all that is under way to a bucket that is far away."""
    wanted, arrived = 40, 0
    all_are_here = asyncio.Event()

    async def wait_for_the_others(stub: StubR2, request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == wanted:
            all_are_here.set()
        await all_are_here.wait()
        return await stub.carry_out(request)

    stub.faults.extend([wait_for_the_others] * wanted)
    image = bytes(MIB)
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(storage.save(key(f"{number}.png"), BytesSource(image)) for number in range(wanted))
        )


async def test_slow_large_uploads_stop_no_small_ones(storage: ImageStorage) -> None:
    begun = asyncio.Event()
    stalled = 0

    class Stalls(Chunks):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal stalled
            stalled += 1
            if stalled == 7:
                begun.set()
            yield b"x"
            await asyncio.Event().wait()

    tasks = [
        asyncio.ensure_future(storage.save(key(f"{number}.bin"), Stalls())) for number in range(9)
    ]
    await begun.wait()

    await storage.save(key("small.png"), BytesSource(PNG))

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Redirects


async def test_a_presigned_url_works_and_ends(storage: ImageStorage) -> None:
    await storage.save(key("a b/кошка+1.png"), BytesSource(PNG))

    location = await storage.locate(key("a b/кошка+1.png"))

    assert isinstance(location, RemoteImage)
    assert (await fetched(location.url)).content == PNG
    expired = location.url.replace("X-Amz-Expires=300", "X-Amz-Expires=1")
    expired = expired.replace("X-Amz-Date=2", "X-Amz-Date=1")
    assert (await fetched(expired)).status_code in (400, 403)


async def test_a_missing_image_is_not_redirected_to(storage: ImageStorage) -> None:
    with pytest.raises(ImageNotFound):
        await storage.locate(key("missing.png"))


async def test_what_was_seen_is_asked_for_again_after_a_minute(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(b"", {}, '"e"')
    await storage.locate(key("a.png"))
    await storage.locate(key("a.png"))
    assert stub.operations["HeadObject"] == 1

    now = time.monotonic()
    monkeypatch.setattr("stillroom.store.bucket.existence_cache.time.monotonic", lambda: now + 61)
    del stub.objects["compute/a.png"]

    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))


async def test_a_look_that_a_deletion_overtook_is_not_remembered(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    await storage.save(key("b.png"), BytesSource(PNG))
    asked, answered = asyncio.Event(), asyncio.Event()

    async def answers_late(stub: StubR2, request: web.Request) -> web.StreamResponse:
        response = await stub.carry_out(request)
        asked.set()
        await answered.wait()
        return response

    stub.faults.append(answers_late)
    look = asyncio.ensure_future(storage.stat(key("a.png")))
    await asked.wait()
    await storage.delete(key("a.png"))
    answered.set()
    await look

    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))
