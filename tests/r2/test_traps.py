"""R2's traps, one by one, against a stub that behaves as R2's documents say (protocols.md, 5)."""

import asyncio
import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web

from contract.suite import PNG, RULES, SVG, Chunks, everything, key
from services import stub_r2
from services.stub_r2 import BUCKET, KEY_ID, SECRET, Fault, StubR2
from stillroom.errors import BackendUnavailable, DigestMismatch, ImageNotFound, PreconditionFailed
from stillroom.paths import KeyPrefix
from stillroom.storage.choose import R2Config, open_storage
from stillroom.storage.content_type import RASTER
from stillroom.storage.interface import (
    ANY,
    BytesSource,
    Condition,
    EntryPage,
    ImageStorage,
    ListQuery,
    RemoteImage,
)
from stillroom.storage.r2 import client as client_module
from stillroom.storage.r2.entries import LOOKS_AT_ONCE

MIB = 1024**2
CREATE = Condition(if_none_match=ANY)


def opened(stub: StubR2, *, key_id: str = KEY_ID, check_exists: bool = True) -> ImageStorage:
    config = R2Config(stub.endpoint_url, key_id, SECRET, BUCKET, check_exists=check_exists)
    return open_storage(config, RULES)


@pytest.fixture
async def storage(stub: StubR2) -> AsyncIterator[ImageStorage]:
    storage = opened(stub)
    yield storage
    await storage.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits 20 s for what must fail; the proportions stay."""
    monkeypatch.setattr(client_module, "DEADLINE_S", 0.8)
    monkeypatch.setattr("stillroom.storage.r2.storage.DEADLINE_S", 0.8)
    monkeypatch.setattr(client_module, "_PATIENCE_S", 0.25)


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


@pytest.mark.parametrize("size", [0, 17 * MIB], ids=["one request", "in parts"])
@pytest.mark.parametrize(
    ("name", "start", "content_type"),
    [
        ("a.svg", SVG, "image/svg+xml"),
        ("a.png", SVG, "image/svg+xml"),
        ("a.jpg", b"<!DOCTYPE html><script>", "text/html"),
        ("a.xml", b"<?xml version='1.0'?><html xmlns='x'>", "text/html"),
        ("a.html", b"text <script>", "text/html"),
        ("a.txt", b"text <script>", "text/plain"),
        ("a.json", b"{}<script>", "application/json"),
        ("a.js", b"alert(1)", "application/octet-stream"),
        ("a.pdf", b"%PDF-1.4", "application/octet-stream"),
        ("a", b"", "application/octet-stream"),
        ("a.html", b"GIF89a/*<script>", "image/gif"),
        ("a.svg", PNG, "image/png"),
        ("a.js", b"\xff\xd8\xff<script>", "image/jpeg"),
    ],
)
async def test_what_is_not_raster_is_an_attachment(
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
    attached = content_type not in RASTER
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

    assert (found.size, found.content_type, found.sha256) == (3, "image/webp", None)
    assert found.save_id.startswith('"e"-')


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


# Trouble that passes


@pytest.mark.parametrize(
    "fault",
    [
        stub_r2.answers(429, "TooManyRequests"),
        stub_r2.answers(429),
        stub_r2.answers(500, "InternalError"),
        stub_r2.answers(503, "SlowDown"),
        stub_r2.answers(502),
        stub_r2.answers(520),
        stub_r2.answers(409, "ConditionalRequestConflict"),
        stub_r2.answers(400, "RequestTimeout"),
        stub_r2.resets_before_the_body,
        stub_r2.resets_after_the_body,
        stub_r2.does_it_and_resets,
        stub_r2.does_it_but_says_500,
    ],
)
@pytest.mark.parametrize("data", [PNG, bytes(2 * MIB), b""])
async def test_a_save_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault, data: bytes
) -> None:
    stub.faults.append(fault)

    saved = await storage.save(key("a.png"), BytesSource(data))

    assert stub.objects["compute/a.png"].body == data
    assert (await storage.stat(key("a.png"))).save_id == saved.save_id
    assert stub.operations["PutObject"] == 2


@pytest.mark.parametrize(
    "fault",
    [
        stub_r2.does_it_and_resets,
        stub_r2.does_it_but_says_500,
    ],
)
async def test_a_create_only_save_knows_its_own_success(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault
) -> None:
    stub.faults.append(fault)

    saved = await storage.save(key("a.png"), BytesSource(PNG), CREATE)

    assert stub.objects["compute/a.png"].headers["x-amz-meta-save-id"] == saved.save_id
    assert stub.operations == {"PutObject": 2, "HeadObject": 1}


async def test_a_kept_connection_that_breaks_is_not_tried_again_in_secret(
    storage: ImageStorage, stub: StubR2
) -> None:
    """aiohttp would repeat the PUT by itself, and we would take our own success for a 412."""
    await storage.save(key("first.png"), BytesSource(PNG))
    stub.faults.append(stub_r2.does_it_and_resets)

    saved = await storage.save(key("a.png"), BytesSource(b""), CREATE)

    assert stub.objects["compute/a.png"].headers["x-amz-meta-save-id"] == saved.save_id


async def test_a_412_after_a_lost_answer_that_is_not_ours_is_no_answer(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def somebody_else_comes_first(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"theirs", {}, '"theirs"')
        return await stub_r2.resets_after_the_body(stub, request)

    stub.faults.append(somebody_else_comes_first)

    with pytest.raises(BackendUnavailable, match="unknown"):
        await storage.save(key("a.png"), BytesSource(PNG), CREATE)


async def test_a_completed_upload_whose_answer_was_lost_is_found(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.faults.extend([pass_on, pass_on, pass_on, stub_r2.does_it_and_resets])

    saved = await storage.save(key("big.bin"), Chunks(bytes(20 * MIB)))

    assert stub.objects["compute/big.bin"].headers["x-amz-meta-save-id"] == saved.save_id
    assert stub.operations["CompleteMultipartUpload"] == 2


@pytest.mark.usefixtures("hurried")
async def test_a_completion_may_take_longer_than_other_requests(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def takes_its_time(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, pass_on, pass_on, takes_its_time])

    await storage.save(key("big.bin"), Chunks(bytes(20 * MIB)))

    assert stub.operations["CompleteMultipartUpload"] == 1


async def test_an_error_inside_of_a_200_is_an_error(storage: ImageStorage, stub: StubR2) -> None:
    stub.faults.extend([pass_on, pass_on, pass_on, stub_r2.error_in_a_200("InternalError")])

    await storage.save(key("big.bin"), Chunks(bytes(20 * MIB)))

    assert len(stub.objects["compute/big.bin"].body) == 20 * MIB
    assert stub.operations["CompleteMultipartUpload"] == 2


async def test_a_create_only_multipart_upload_is_refused_by_the_bucket_itself(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def somebody_else_comes_first(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/big.bin"] = stub_r2.Stored(b"theirs", {}, '"theirs"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_else_comes_first])

    with pytest.raises(PreconditionFailed):
        await storage.save(key("big.bin"), Chunks(bytes(20 * MIB)), CREATE)

    await storage.close()
    assert stub.objects["compute/big.bin"].body == b"theirs"
    assert stub.uploads == {}


async def pass_on(stub: StubR2, request: web.Request) -> web.StreamResponse:
    return await stub.carry_out(request)


@pytest.mark.slow
async def test_many_writes_to_one_key_keep_to_one_a_second(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.one_write_a_second = True

    await asyncio.gather(
        *(storage.save(key("a.png"), BytesSource(b"%d" % number)) for number in range(3))
    )

    assert stub.operations["PutObject"] < 20, "one at a time, with growing pauses"


async def test_a_pause_that_the_bucket_asks_for_is_kept(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.faults.append(stub_r2.answers(503, "SlowDown", retry_after="1"))
    began = time.monotonic()

    await storage.save(key("a.png"), BytesSource(PNG))

    assert time.monotonic() - began >= 1


async def test_a_listing_that_breaks_off_is_asked_for_again(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.append(stub_r2.breaks_off_its_answer)

    assert (await storage.list(ListQuery(everything()))).entries == ["compute/a.png"]


# Trouble that stays


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (stub_r2.answers(503, "SlowDown"), "out of reach"),
        (stub_r2.answers(429), "out of reach"),
        (stub_r2.answers(500, "InternalError"), "unknown"),
        (stub_r2.resets_before_the_body, "unknown"),
        (stub_r2.does_it_and_resets, "unknown"),
        (stub_r2.hangs, "unknown"),
        (stub_r2.does_it_and_hangs, "unknown"),
    ],
)
async def test_trouble_that_stays_ends_in_time(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault, word: str
) -> None:
    stub.faults.extend([fault] * 100)
    began = time.monotonic()

    with pytest.raises(BackendUnavailable, match=word):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert time.monotonic() - began < 1.5


@pytest.mark.usefixtures("hurried")
async def test_a_bucket_that_is_not_there_is_out_of_reach(stub: StubR2) -> None:
    stub.endpoint_url = "http://127.0.0.1:9"
    storage = opened(stub)

    with pytest.raises(BackendUnavailable, match="out of reach"):
        await storage.save(key("a.png"), BytesSource(PNG))

    await storage.close()


@pytest.mark.usefixtures("hurried")
async def test_no_more_than_64_requests_hang_at_once(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_PATIENCE_S", 10)  # so that none is given up and repeated
    stub.faults.extend([stub_r2.hangs] * 1000)

    looks = [asyncio.ensure_future(storage.stat(key(f"{number}.png"))) for number in range(200)]
    await asyncio.sleep(0.5)
    under_way = sum(stub.operations.values())
    outcomes = await asyncio.gather(*looks, return_exceptions=True)

    assert under_way == client_module.IN_FLIGHT
    assert all(isinstance(outcome, BackendUnavailable) for outcome in outcomes)


# Refusals that no repetition mends


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        ((401, "Unauthorized"), "R2_ACCESS_KEY_ID"),
        ((401, ""), "R2_ACCESS_KEY_ID"),
        ((403, "InvalidAccessKeyId"), "R2_ACCESS_KEY_ID"),
        ((403, "SignatureDoesNotMatch"), "R2_SECRET_ACCESS_KEY"),
        ((403, "AccessDenied"), "Object Read & Write"),
        ((403, "RequestTimeTooSkewed"), "clock"),
        ((404, "NoSuchBucket"), "R2_BUCKET_NAME"),
    ],
)
async def test_a_refusal_names_what_to_mend(
    storage: ImageStorage,
    stub: StubR2,
    caplog: pytest.LogCaptureFixture,
    refusal: tuple[int, str],
    advice: str,
) -> None:
    stub.faults.append(stub_r2.answers(*refusal))

    with pytest.raises(BackendUnavailable):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert advice in caplog.text
    assert stub.operations == {"PutObject": 1}


async def test_unknown_keys_are_401_and_not_an_empty_store(stub: StubR2) -> None:
    storage = opened(stub, key_id="nobody")

    with pytest.raises(BackendUnavailable):
        await storage.stat(key("a.png"))
    with pytest.raises(BackendUnavailable):
        await storage.list(ListQuery(everything()))
    with pytest.raises(BackendUnavailable):
        await storage.check()

    await storage.close()


async def test_a_sound_bucket_passes_its_check(storage: ImageStorage) -> None:
    await storage.check()


# Conditions that need a look first


async def test_an_image_replaced_after_the_look_is_looked_at_again(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(b"one", {}, '"one"')

    async def somebody_replaces_it(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"two", {}, '"two"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_replaces_it])

    await storage.save(key("a.png"), BytesSource(PNG), Condition(if_match=ANY))

    assert stub.objects["compute/a.png"].body == PNG
    assert stub.operations == {"HeadObject": 2, "PutObject": 2}


async def test_a_guarded_save_whose_image_was_replaced_after_the_look_is_refused(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(b"one", {}, '"one"')

    async def somebody_replaces_it(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"two", {}, '"two"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_replaces_it])

    with pytest.raises(PreconditionFailed):
        await storage.save(
            key("a.png"), BytesSource(PNG), Condition(if_match=frozenset(['"one"', '"other"']))
        )

    assert stub.objects["compute/a.png"].body == b"two"


async def test_a_condition_that_cannot_hold_is_refused_before_the_body_is_read(
    storage: ImageStorage,
) -> None:
    source = Chunks(PNG)

    with pytest.raises(PreconditionFailed):
        await storage.save(key("a.png"), source, Condition(if_match=frozenset(['"one"'])))

    assert source.asked == 0


# Deleting


@pytest.mark.parametrize(
    "fault", [stub_r2.resets_before_the_body, stub_r2.does_it_and_resets, stub_r2.answers(503)]
)
async def test_a_deletion_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, fault])

    await storage.delete(key("a.png"))

    assert stub.objects == {}
    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))


@pytest.mark.usefixtures("hurried")
async def test_a_deletion_with_an_unknown_outcome_is_no_success_and_nothing_is_assumed(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, *[stub_r2.does_it_and_hangs] * 50])

    with pytest.raises(BackendUnavailable, match="unknown"):
        await storage.delete(key("a.png"))

    stub.faults.clear()
    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))


async def test_a_deletion_of_one_very_save_is_not_sent_again_over_another_one(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def saved_meanwhile(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = newer
        return await stub_r2.answers(503)(stub, request)

    saved = await storage.save(key("a.png"), BytesSource(PNG))
    newer = dataclasses.replace(stub.objects["compute/a.png"])
    stub.faults.extend([pass_on, saved_meanwhile])

    with pytest.raises(BackendUnavailable):
        await storage.delete(key("a.png"), save_id=saved.save_id)

    assert stub.objects["compute/a.png"] is newer


# Copying


async def test_a_copy_replaces_what_is_stored_with_it(storage: ImageStorage, stub: StubR2) -> None:
    await storage.save(key("a.svg"), BytesSource(SVG))
    stub.objects["compute/a.svg"].headers["cache-control"] = "of long ago"
    stub.operations.clear()

    copied = await storage.copy(key("a.svg"), key("b/é+ .svg"))

    assert stub.objects["compute/b/é+ .svg"].headers == {
        "content-type": "image/svg+xml",
        "content-disposition": "attachment",
        "cache-control": "public, max-age=300",
        "x-amz-meta-sha256": hashlib.sha256(SVG).hexdigest(),
        "x-amz-meta-save-id": copied.save_id,
    }
    assert stub.classes() == (1, 1)


@pytest.mark.parametrize(
    "fault",
    [
        stub_r2.answers(500, "InternalError"),
        stub_r2.error_in_a_200("InternalError"),
        stub_r2.does_it_and_resets,
    ],
)
async def test_a_copy_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, fault])

    copied = await storage.copy(key("a.png"), key("b.png"))

    assert (await storage.stat(key("b.png"))).save_id == copied.save_id


async def test_a_copy_is_of_the_image_that_was_looked_at(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))

    async def somebody_replaces_it(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"two", {"content-type": "x/y"}, '"two"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_replaces_it])

    copied = await storage.copy(key("a.png"), key("b.png"))

    assert (copied.size, copied.content_type, copied.sha256) == (3, "x/y", None)
    assert stub.objects["compute/b.png"].body == b"two"


# Listing


async def test_short_pages_are_joined(storage: ImageStorage, stub: StubR2) -> None:
    stub.most_on_a_page = 3
    paths = sorted(f"{number}.png" for number in range(20))
    for path in paths:
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything(), limit=10))

    assert page.entries == [f"compute/{path}" for path in paths[:10]]
    assert page.more


@pytest.mark.parametrize("limit", [1, 10])
async def test_keys_that_are_left_out_cost_no_request_each(
    storage: ImageStorage, stub: StubR2, limit: int
) -> None:
    for number in range(300):
        stub.objects[f"compute/a//{number}"] = stub_r2.Stored(b"", {}, '"e"')
    stub.objects["compute/z.png"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything(), limit=limit))

    assert page.entries == ["compute/z.png"]
    assert stub.operations["ListObjectsV2"] == 2


async def test_a_listing_that_does_not_move_on_is_given_up(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def stands_still(_: StubR2, __: web.Request) -> web.StreamResponse:
        return stub_r2.xml(
            "<ListBucketResult><IsTruncated>true</IsTruncated>"
            "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
        )

    stub.faults.extend([stands_still] * 5)

    with pytest.raises(BackendUnavailable, match="move on"):
        await storage.list(ListQuery(everything()))


@pytest.mark.usefixtures("hurried")
async def test_no_signature_is_kept_in_an_error(storage: ImageStorage, stub: StubR2) -> None:
    async def says_too_much(_: StubR2, __: web.Request) -> web.StreamResponse:
        return web.Response(headers={"x-long": "y" * 20_000})

    stub.faults.extend([says_too_much] * 50)

    with pytest.raises(BackendUnavailable) as found:
        await storage.stat(key("a.png"))

    cause = found.value.__cause__
    assert "HeadObject" in repr(cause)
    assert "authorization" not in repr(cause).lower()
    assert "Signature" not in repr(cause)
    assert cause is not None
    assert cause.__traceback__ is None, "it would hold the request and its body"


@pytest.mark.usefixtures("hurried")
async def test_a_page_in_an_unknown_encoding_is_trouble_like_any_other(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def answers_elsewhere(_: StubR2, __: web.Request) -> web.StreamResponse:
        page = b'<?xml version="1.0" encoding="Shift_JIS"?><html/>'
        return web.Response(status=502, body=page)

    stub.faults.append(answers_elsewhere)

    saved = await storage.save(key("a.png"), BytesSource(PNG))

    assert stub.objects["compute/a.png"].body == PNG
    assert saved.size == len(PNG)


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


async def test_keys_that_no_image_can_have_are_left_out_and_counted(
    storage: ImageStorage, stub: StubR2, caplog: pytest.LogCaptureFixture
) -> None:
    strange = ("a//b", "/x", "..", "a/../b", "tab\there", "back\\slash", "e\u0301", "folder/")
    for path in (*strange, "good.png"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything()))

    assert page.entries == ["compute/good.png"]
    assert f"{len(strange)} keys" in caplog.text


async def test_a_listing_is_in_byte_order_as_on_the_disk(
    storage: ImageStorage, stub: StubR2
) -> None:
    paths = ["a!", "a-b", "a.txt", "a/b", "a/c/d", "a0", "ab", "z/1", "é/x", "\uffee", "😀/y"]
    for path in reversed(paths):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    whole = await storage.list(ListQuery(everything()))
    folded = await storage.list(ListQuery(everything(), fold=True))

    assert whole.entries == [f"compute/{path}" for path in paths]
    top = ["a!", "a-b", "a.txt", "a/", "a0", "ab", "z/", "é/", "\uffee", "😀/"]
    assert folded.entries == [f"compute/{entry}" for entry in top]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("most_on_a_page", [1, 1000])
async def test_folded_pages_pass_their_folders(
    storage: ImageStorage, stub: StubR2, limit: int, most_on_a_page: int
) -> None:
    stub.most_on_a_page = most_on_a_page
    for path in ("a-b", "a/b", "a/c/d", "a0", "b/1", "b/2", "c"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    seen: list[str] = []
    more, after = True, ""
    while more:
        page = await storage.list(
            ListQuery(everything(), after=f"compute/{after}", limit=limit, fold=True)
        )
        seen += page.entries
        more, after = page.more, page.entries[-1].removeprefix("compute/")

    assert seen == [f"compute/{entry}" for entry in ("a-b", "a/", "a0", "b/", "c")]


async def test_a_folded_page_behind_a_folder_is_one_request(
    storage: ImageStorage, stub: StubR2
) -> None:
    for path in ("a/b", "a/c", "b", "c", "d"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything(), after="compute/a/", limit=2, fold=True))

    assert (page.entries, page.more) == (["compute/b", "compute/c"], True)
    assert stub.operations == {"ListObjectsV2": 1}


# Listing with facts


def fill(stub: StubR2, count: int) -> None:
    for number in range(count):
        stub.objects[f"compute/{number:02}"] = stub_r2.Stored(b"xyz", {}, '"e"')


def of_looks(fault: Fault) -> Fault:
    """Met by looks alone, in whichever order the requests of several pages come in."""

    async def met(stub: StubR2, request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return await fault(stub, request)
        stub.faults.appendleft(met)
        return await stub.carry_out(request)

    return met


async def test_entries_are_one_listing_and_one_look_an_image(
    storage: ImageStorage, stub: StubR2
) -> None:
    fill(stub, 5)
    stub.objects["compute/folder/a"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.entries(ListQuery(everything(), fold=True))

    assert page.entries[5:] == [KeyPrefix("compute/folder/")]
    assert page.entries[:5] == [await storage.stat(key(f"{number:02}")) for number in range(5)]
    assert stub.operations == {"ListObjectsV2": 1, "HeadObject": 5 + 5}


@pytest.mark.parametrize("limit", [2, 4])
async def test_an_image_that_went_away_after_it_was_listed_is_no_entry(
    storage: ImageStorage, stub: StubR2, limit: int
) -> None:
    fill(stub, 3)

    async def lists_and_loses(stub: StubR2, request: web.Request) -> web.StreamResponse:
        page = await stub.carry_out(request)
        del stub.objects["compute/00"], stub.objects["compute/01"]
        return page

    stub.faults.append(lists_and_loses)

    page = await storage.entries(ListQuery(everything(), limit=limit))

    if limit == 2:  # nothing is left of it, and the way on is known all the same
        assert page == EntryPage([], next_after="compute/01")
    else:
        assert page == EntryPage([await storage.stat(key("02"))])


async def test_all_pages_together_have_so_many_looks_under_way_and_others_get_through(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_PATIENCE_S", 60.0)  # no look is tried again meanwhile
    fill(stub, 50)
    all_wait, going_on = asyncio.Barrier(LOOKS_AT_ONCE + 1), asyncio.Event()

    async def waits(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await all_wait.wait()
        await going_on.wait()
        return await stub.carry_out(request)

    stub.faults.extend([of_looks(waits)] * LOOKS_AT_ONCE)
    query = ListQuery(everything())
    pages = [asyncio.ensure_future(storage.entries(query)) for _ in range(3)]
    await all_wait.wait()

    assert (await storage.stat(key("00"))).size == 3
    assert stub.operations["HeadObject"] == LOOKS_AT_ONCE + 1
    going_on.set()
    found = await asyncio.gather(*pages)

    assert [len(page.entries) for page in found] == [50] * 3
    assert stub.operations["HeadObject"] == 3 * 50 + 1


async def test_a_look_for_an_entry_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2
) -> None:
    fill(stub, 3)
    stub.faults.extend([pass_on, stub_r2.answers(503), stub_r2.resets_after_the_body])

    page = await storage.entries(ListQuery(everything()))

    assert len(page.entries) == 3


@pytest.mark.usefixtures("hurried")
async def test_a_page_whose_looks_fail_is_no_shorter_page_and_ends_them_all(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.storage.r2.entries.DEADLINE_S", 0.8)
    fill(stub, 50)
    stub.faults.extend([of_looks(stub_r2.hangs)] * 1000)

    pages = [storage.entries(ListQuery(everything())) for _ in range(3)]
    found = await asyncio.gather(*pages, return_exceptions=True)

    assert {type(failure) for failure in found} == {BackendUnavailable}
    coroutines = [repr(task.get_coro()) for task in asyncio.all_tasks()]
    assert not [name for name in coroutines if "Describer" in name], "nobody goes on looking"
    stub.faults.clear()
    assert len((await storage.entries(ListQuery(everything()))).entries) == 50


async def test_a_page_that_nobody_waits_for_any_more_is_not_read_to_its_end(
    storage: ImageStorage, stub: StubR2
) -> None:
    fill(stub, 50)
    all_wait = asyncio.Barrier(LOOKS_AT_ONCE + 1)

    async def waits(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await all_wait.wait()
        return await stub_r2.hangs(stub, request)

    stub.faults.extend([of_looks(waits)] * LOOKS_AT_ONCE)
    task = asyncio.ensure_future(storage.entries(ListQuery(everything())))
    await all_wait.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len((await storage.entries(ListQuery(everything()))).entries) == 50
    assert stub.operations["HeadObject"] == LOOKS_AT_ONCE + 50


# Redirects


async def test_a_presigned_url_works_and_ends(storage: ImageStorage) -> None:
    await storage.save(key("a b/кошка+1.png"), BytesSource(PNG))

    location = await storage.locate(key("a b/кошка+1.png"))

    assert isinstance(location, RemoteImage)
    async with httpx.AsyncClient() as http:
        assert (await http.get(location.url)).content == PNG
        expired = location.url.replace("X-Amz-Expires=300", "X-Amz-Expires=1")
        expired = expired.replace("X-Amz-Date=2", "X-Amz-Date=1")
        assert (await http.get(expired)).status_code == 400


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
    monkeypatch.setattr("stillroom.storage.r2.seen.time.monotonic", lambda: now + 61)
    del stub.objects["compute/a.png"]

    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))


async def test_a_look_that_a_deletion_overtook_is_not_remembered(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    await storage.save(key("b.png"), BytesSource(PNG))
    answered = asyncio.Event()

    async def answers_late(stub: StubR2, request: web.Request) -> web.StreamResponse:
        response = await stub.carry_out(request)
        await answered.wait()
        return response

    stub.faults.append(answers_late)
    look = asyncio.ensure_future(storage.stat(key("a.png")))
    await asyncio.sleep(0.1)
    await storage.delete(key("a.png"))
    answered.set()
    await look

    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))
