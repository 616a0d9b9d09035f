"""What a bucket is asked is counted, and whether it lets us work is found out cheaply."""

import asyncio
import logging
import uuid
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from r2.conftest import Running
from running import IMAGES
from services import stub_faults, stub_wire
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, bucket_variables
from services.stub_r2 import StubR2
from services.stub_wire import BUCKET, KEY_ID, SECRET
from stillroom.app import check_settings
from stillroom.settings import AllSettings
from waiting import eventually

pytestmark = pytest.mark.slow

PNG = b"\x89PNG\r\n\x1a\n"


async def counted(client: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    text = (await client.get("/metrics")).text
    found = {
        (sample.labels["call"], sample.labels.get("outcome", "again")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in ("stillroom_storage_calls_total", "stillroom_storage_retries_total")
    }
    return {name: value for name, value in found.items() if value}


async def test_each_attempt_is_counted_with_what_became_of_it(
    running: Running, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = "stillroom.store.s3.client._TIMEOUT_S"

    async def hurries_the_next_one(stub: StubR2, request: web.Request) -> web.StreamResponse:
        monkeypatch.setattr(timeout, 2.0)
        return await stub_faults.resets_after_the_body(stub, request)

    async def hangs(stub: StubR2, request: web.Request) -> web.StreamResponse:
        monkeypatch.setattr(timeout, 60.0)
        return await stub_faults.hangs(stub, request)

    monkeypatch.setattr(timeout, 60.0)
    async with running() as client:
        before = await counted(client)
        stub.faults.extend(
            [
                stub_faults.answers(503, "SlowDown"),
                stub_faults.answers(429),
                hurries_the_next_one,
                hangs,
            ]
        )
        (await client.post(f"{IMAGES}/a.png", files={"file": PNG})).raise_for_status()
        assert (await client.get(f"{IMAGES}/b.png")).status_code == 404
        stub.faults.append(stub_faults.answers(403, "AccessDenied"))
        assert (await client.get(f"{IMAGES}/c.png")).status_code == 503
        after = await counted(client)

    grown = {name: after[name] - before.get(name, 0) for name in after}
    # On a busy machine an attempt may not even connect in two seconds; then there is one more.
    late = grown.pop(("PutObject", "unreachable"), 0)
    assert {name: number for name, number in grown.items() if number} == {
        ("PutObject", "error"): 1,
        ("PutObject", "throttled"): 1,
        ("PutObject", "broken"): 1,
        ("PutObject", "timeout"): 1,
        ("PutObject", "ok"): 1,
        ("PutObject", "again"): 4 + late,
        ("HeadObject", "missing"): 1,
        ("HeadObject", "refused"): 1,
    }


async def test_probes_that_come_often_cost_one_operation(
    running: Running, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is two seconds, in which a slow machine does not even open the database.
    monkeypatch.setattr("stillroom.store.bucket.storage._CHECK_HOLDS_S", 600.0)
    async with running() as client:
        probes = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
        probes += [await client.get("/readyz") for _ in range(10)]

    assert {probe.status_code for probe in probes} == {200}
    assert stub.classes() == (0, 1)


async def test_a_token_that_may_only_read_is_not_ready(running: Running, stub: StubR2) -> None:
    async def may_not_write(bucket: StubR2, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return stub_wire.error(403, "AccessDenied")
        return await bucket.carry_out(request)

    stub.faults.extend([may_not_write] * 2)
    async with running() as client:
        ready = await client.get("/readyz")
        mended = await client.get("/readyz")

    assert ready.status_code == 503
    assert "needs `Object Read & Write`" in ready.json()["parts"]["storage"]["reason"]
    assert mended.status_code == 200, "trouble is looked at anew each time"


async def test_a_bucket_that_is_missing_is_logged_once_and_once_when_it_is_there(
    running: Running, seaweed: SeaweedFS, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"later-{uuid.uuid4()}"
    caplog.set_level(logging.INFO, logger="stillroom.r2")

    def logged() -> list[str]:
        return [one.message for one in caplog.records if "GetObject" in one.message]

    async with running(**bucket_variables(seaweed, name)) as client:
        refused = [await client.get("/readyz") for _ in range(5)]
        (said,) = logged()
        operator.make_bucket(name)

        async def is_ready() -> bool:  # not at once: it remembers what is missing
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_ready)

    assert {probe.status_code for probe in refused} == {503}
    assert "R2_BUCKET_NAME names a bucket that does not exist" in said
    assert logged()[1:] == ["the bucket accepts GetObject again"]


@pytest.mark.parametrize("status", [204, 400, 404, 501])
async def test_whatever_else_a_bucket_says_to_an_odd_upload_it_lets_us_write(
    running: Running, stub: StubR2, status: int
) -> None:
    async def says(bucket: StubR2, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            return web.Response(status=status)
        return await bucket.carry_out(request)

    stub.faults.extend([says] * 2)
    async with running() as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_a_bucket_that_hangs_is_one_look_and_an_answer_in_time(
    running: Running, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.store.api.health._WAIT_S", 0.2)
    stub.faults.append(stub_faults.hangs)
    async with running() as client:
        probes = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))

        assert {probe.status_code for probe in probes} == {503}
        assert probes[0].json()["parts"]["storage"] == {
            "state": "backend_unavailable",
            "reason": "the storage does not respond",
        }
        assert stub.operations["GetObject"] == 1


async def test_what_is_configured_and_what_is_warned_of_are_told_apart(
    stub: StubR2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "R2_ENDPOINT_URL": stub.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
        "STILLROOM_DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)

    lines, warnings = await asyncio.to_thread(check_settings, AllSettings.read())

    assert lines[0].startswith("storage: R2ImageStorage")
    assert len(warnings) == 2
    assert "warning" not in " ".join([*lines, *warnings])
