"""A bucket in trouble, against a stub that behaves as R2's documents say (protocols.md, 5)."""

import asyncio
import time

import pytest
from aiohttp import web

from contract.images import PNG, Chunks, everything, key
from r2.traps import CREATE, MIB, opened, pass_on
from services import stub_faults, stub_r2
from services.stub_r2 import StubR2
from stillroom.errors import BackendUnavailable, PreconditionFailed
from stillroom.store.connections import Connections
from stillroom.store.port import ImageStorage
from stillroom.store.s3 import client as client_module
from stillroom.store.sources import BytesSource
from stillroom.store.values import ListQuery

pytestmark = pytest.mark.slow

# Trouble that passes


@pytest.mark.parametrize(
    "fault",
    [
        stub_faults.answers(429, "TooManyRequests"),
        stub_faults.answers(429),
        stub_faults.answers(500, "InternalError"),
        stub_faults.answers(503, "SlowDown"),
        stub_faults.answers(502),
        stub_faults.answers(520),
        stub_faults.answers(409, "ConditionalRequestConflict"),
        stub_faults.answers(400, "RequestTimeout"),
        stub_faults.resets_before_the_body,
        stub_faults.resets_after_the_body,
        stub_faults.does_it_and_resets,
        stub_faults.does_it_but_says_500,
    ],
)
@pytest.mark.parametrize("data", [PNG, bytes(2 * MIB), b"x"])
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
        stub_faults.does_it_and_resets,
        stub_faults.does_it_but_says_500,
    ],
)
async def test_a_create_only_save_knows_its_own_success(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault
) -> None:
    stub.faults.append(fault)

    saved = await storage.save(key("a.png"), BytesSource(PNG), CREATE)

    assert stub.objects["compute/a.png"].headers["x-amz-meta-save-id"] == saved.save_id
    assert stub.operations == {"PutObject": 2, "HeadObject": 1}


@pytest.mark.usefixtures("hurried")
async def test_a_save_that_cannot_look_for_its_own_success_is_of_unknown_outcome(
    storage: ImageStorage, stub: StubR2
) -> None:
    refused = stub_faults.answers(412, "PreconditionFailed")
    stub.faults.extend(
        [stub_faults.does_it_but_says_500, refused, *[stub_faults.answers(503)] * 100]
    )

    with pytest.raises(BackendUnavailable, match="the outcome is unknown"):
        await storage.save(key("a.png"), BytesSource(PNG), CREATE)

    assert "compute/a.png" in stub.objects


async def test_a_kept_connection_that_breaks_is_not_tried_again_in_secret(
    storage: ImageStorage, stub: StubR2
) -> None:
    """aiohttp would repeat the PUT by itself, and we would take our own success for a 412."""
    await storage.save(key("first.png"), BytesSource(PNG))
    stub.faults.append(stub_faults.does_it_and_resets)

    saved = await storage.save(key("a.png"), BytesSource(PNG + b"2"), CREATE)

    assert stub.objects["compute/a.png"].headers["x-amz-meta-save-id"] == saved.save_id


async def test_a_412_after_a_lost_answer_that_is_not_ours_is_no_answer(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def somebody_else_comes_first(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"theirs", {}, '"theirs"')
        return await stub_faults.resets_after_the_body(stub, request)

    stub.faults.append(somebody_else_comes_first)

    with pytest.raises(BackendUnavailable, match="unknown"):
        await storage.save(key("a.png"), BytesSource(PNG), CREATE)


async def test_a_completed_upload_whose_answer_was_lost_is_found(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.faults.extend([pass_on, pass_on, pass_on, stub_faults.does_it_and_resets])

    saved = await storage.save(key("big.bin"), Chunks(bytes(20 * MIB)))

    assert stub.objects["compute/big.bin"].headers["x-amz-meta-save-id"] == saved.save_id
    assert stub.operations["CompleteMultipartUpload"] == 2


async def test_a_completion_may_take_longer_than_other_requests(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def takes_its_time(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2.5)  # longer than other requests may take
        return await stub.carry_out(request)

    monkeypatch.setattr(client_module, "_TIMEOUT_S", 2)
    stub.faults.extend([pass_on, pass_on, pass_on, takes_its_time])

    await storage.save(key("big.bin"), Chunks(bytes(20 * MIB)))

    assert stub.operations["CompleteMultipartUpload"] == 1


async def test_an_error_inside_of_a_200_is_an_error(storage: ImageStorage, stub: StubR2) -> None:
    stub.faults.extend([pass_on, pass_on, pass_on, stub_faults.error_in_a_200("InternalError")])

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
    stub.faults.append(stub_faults.answers(503, "SlowDown", retry_after="1"))
    began = time.monotonic()

    await storage.save(key("a.png"), BytesSource(PNG))

    assert time.monotonic() - began >= 1


async def test_a_listing_that_breaks_off_is_asked_for_again(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.append(stub_faults.breaks_off_its_answer)

    assert (await storage.list(ListQuery(everything()))).entries == ["compute/a.png"]


# Trouble that stays


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        # Else the deadline might cut an attempt off, of which nothing is known then.
        (stub_faults.answers(503, "SlowDown", retry_after="1"), "out of reach"),
        (stub_faults.answers(429, retry_after="1"), "out of reach"),
        (stub_faults.answers(500, "InternalError"), "unknown"),
        (stub_faults.resets_before_the_body, "unknown"),
        (stub_faults.does_it_and_resets, "unknown"),
        (stub_faults.hangs, "unknown"),
        (stub_faults.does_it_and_hangs, "unknown"),
    ],
)
async def test_trouble_that_stays_ends_in_time(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault, word: str
) -> None:
    stub.faults.extend([fault] * 100)
    began = time.monotonic()

    with pytest.raises(BackendUnavailable, match=word):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert time.monotonic() - began < 60, "1.6 s, not that of a bucket that is waited for"


async def test_no_attempt_begins_that_its_deadline_would_cut_off(
    storage: ImageStorage, stub: StubR2
) -> None:
    """The pause asked for ends within the deadline, but leaves no time for an answer."""
    stub.faults.extend([stub_faults.answers(503, "SlowDown", retry_after="59"), stub_faults.hangs])

    with pytest.raises(BackendUnavailable, match="out of reach: it responds 503 SlowDown"):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert stub.operations == {"PutObject": 1}


async def test_a_write_for_which_too_little_is_left_does_not_begin(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.store.bucket.upload.DEADLINE_S", 0.5)
    stub.faults.append(stub_faults.hangs)

    with pytest.raises(BackendUnavailable, match="out of reach: too many requests wait for it"):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert stub.requests == []


@pytest.mark.usefixtures("hurried")
async def test_a_bucket_that_is_not_there_is_out_of_reach(stub: StubR2) -> None:
    stub.endpoint_url = "http://127.0.0.1:9"
    storage = opened(stub)

    with pytest.raises(BackendUnavailable, match="out of reach"):
        await storage.save(key("a.png"), BytesSource(PNG))

    await storage.close()


@pytest.mark.usefixtures("hurried")
async def test_where_no_connection_is_made_in_time_nothing_was_sent_and_that_is_known(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(_: Connections) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Connections, "_connect", hangs)

    with pytest.raises(BackendUnavailable, match="out of reach: it accepts no connection"):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert stub.requests == []


async def test_no_more_than_64_requests_hang_at_once(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "DEADLINE_S", 120)
    ends = asyncio.Event()
    refuses = stub_faults.answers(403, "AccessDenied")  # which is not repeated

    async def hangs_until_then(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await ends.wait()
        return await refuses(stub, request)

    stub.faults.extend([hangs_until_then] * 1000)

    looks = [asyncio.ensure_future(storage.stat(key(f"{number}.png"))) for number in range(200)]
    while sum(stub.operations.values()) < client_module.IN_FLIGHT:
        assert not any(look.done() for look in looks)
        await asyncio.sleep(0.01)  # until it holds; the looks have a deadline
    await asyncio.sleep(0.3)  # no other begins meanwhile
    under_way = sum(stub.operations.values())
    ends.set()
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
        ((400, "InvalidBucketName"), "R2_BUCKET_NAME"),
    ],
)
async def test_a_refusal_names_what_to_mend(
    storage: ImageStorage,
    stub: StubR2,
    caplog: pytest.LogCaptureFixture,
    refusal: tuple[int, str],
    advice: str,
) -> None:
    stub.faults.append(stub_faults.answers(*refusal))

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
