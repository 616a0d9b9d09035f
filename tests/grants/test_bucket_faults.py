"""A bucket that fails at any request of a completion, which ends in time and can be repeated."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from crash.grant_cases import FAULTS, Trouble
from grants.conftest import PNG, Grant, Site, settings_of, token
from in_process import client_of
from patience import hurry
from services import proxy_faults as faults
from services.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from services.s3 import Operator
from services.seaweedfs import SeaweedFS
from stillroom.app import create_app
from stillroom.settings import AllSettings
from waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def kind() -> str:
    return "bucket"


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy(seaweed.endpoint_url) as running:
        yield running


@pytest.fixture
async def site(
    proxy: FaultyProxy,
    seaweed: SeaweedFS,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    given = {**settings_of(seaweed, tmp_path), "R2_ENDPOINT_URL": proxy.endpoint_url}
    with monkeypatch.context() as patched:
        for name, value in given.items():
            patched.setenv(name, value)
        app = create_app(AllSettings.read())
    async with client_of(app, authorization=f"Bearer {token()}") as client:
        yield Site("bucket", tmp_path, app, client, operator)
        proxy.choose = lambda _: None
    for key in operator.keys(""):
        operator.delete(key)
    seaweed.empty()


async def complete(site: Site, grant: Grant) -> httpx.Response:
    async with asyncio.timeout(120):
        return await site.complete(grant)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
async def test_each_request_of_a_completion_may_fail_once(
    site: Site, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    await site.grant("first.png")  # the tests of the bucket are done
    hurry(monkeypatch, deadline_s=12, timeout_s=1)
    for number in range(1, 9):
        grant = await site.upload(f"{number}.png", if_none_match="*")
        trouble = Trouble(fault, number=number)
        proxy.choose = trouble.choose

        answer = await complete(site, grant)

        proxy.choose = lambda _: None
        # Silence uses up the time of a copy, which may take all there is.
        assert answer.status_code in (200, 503), answer.text
        again = await complete(site, grant)
        assert again.status_code == 200, again.text
        if answer.status_code == 200:
            assert again.content == answer.content
        assert await site.read(f"{number}.png") == PNG
        if len(trouble.asked) < number:
            break
    else:
        raise AssertionError("a completion never ends")
    assert number > 4


@pytest.mark.parametrize("operation", ["HeadObject", "GetObject", "CopyObject", "DeleteObject"])
@pytest.mark.parametrize("fault", [FAULTS[0], faults.is_silent], ids=["503", "silent"])
async def test_a_request_that_fails_for_good_ends_in_time_and_a_repetition_works(
    site: Site, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, operation: str
) -> None:
    await site.grant("first.png")
    grant = await site.upload("a.png")
    with monkeypatch.context() as patched:
        hurry(patched, deadline_s=1.5, timeout_s=0.4)
        proxy.choose = Trouble(fault, operation=operation).choose
        answer = await complete(site, grant)
        proxy.choose = lambda _: None

    # An upload that cannot be deleted now is left to the lifecycle rule.
    assert answer.status_code == (200 if operation == "DeleteObject" else 503), answer.text
    assert (await complete(site, grant)).status_code == 200
    assert await site.read("a.png") == PNG
    assert site.uploads() == []


async def test_the_event_of_a_copy_whose_response_is_lost_is_written_at_once(
    site: Site, proxy: FaultyProxy
) -> None:
    await site.grant("first.png")
    grant = await site.upload("a.png", if_none_match="*")
    trouble = Trouble(faults.does_it_and_resets, number=3)
    proxy.choose = trouble.choose

    answer = await complete(site, grant)

    assert answer.status_code == 200, answer.text
    assert trouble.asked[2:4] == ["CopyObject", "CopyObject"]

    async def is_told() -> bool:
        events = (await site.client.get("/api/v1/storage/events")).json()["events"]
        return [(event["data"]["path"], event["found"]) for event in events] == [("a.png", False)]

    await eventually(is_told)
