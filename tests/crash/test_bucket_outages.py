"""A bucket that cannot be reached, or that refuses our credentials, is said to be so."""

import asyncio
import contextlib

import pytest

from crash.bucket_walks import (
    NEW,
    OLD,
    body_of,
    copy,
    delete,
    list_folder,
    locate,
    look,
    opened,
    save_large,
    save_small,
)
from patience import hurry
from services.faulty_proxy import FaultyProxy
from services.s3 import Operator
from stillroom.errors import BackendUnavailable

pytestmark = [pytest.mark.slow]


@pytest.mark.parametrize("trouble", ["refused", "black hole", "not taken"])
async def test_a_bucket_that_cannot_be_reached_is_said_to_be_so_and_comes_back(
    proxy: FaultyProxy, operator: Operator, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Nobody listens; whoever listens says nothing; or the connection itself never comes about."""
    hurry(monkeypatch, deadline_s=1.5, timeout_s=0.4)
    monkeypatch.setattr("stillroom.store.bucket.storage._CHECK_S", 1.0)
    monkeypatch.setattr("stillroom.store.bucket.storage._CHECK_HOLDS_S", 0.0)
    operator.put("compute/way/a.png", OLD)
    storage = opened(proxy.endpoint_url)
    uses = (
        storage.check, lambda: save_small(storage, "new"), lambda: save_large(storage, "new"),
        lambda: look(storage, "way"), lambda: locate(storage, "way"),
        lambda: list_folder(storage, "way"), lambda: delete(storage, "way"),
        lambda: copy(storage, "way"),
    )  # fmt: skip
    await storage.check()
    with contextlib.ExitStack() as until_mended:
        if trouble == "black hole":
            proxy.black_hole.set()
            until_mended.callback(proxy.black_hole.clear)
        else:
            proxy.refuse()
            until_mended.callback(proxy.accept)
        if trouble == "not taken":
            until_mended.enter_context(proxy.full_queue())
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*(use() for use in uses), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BackendUnavailable] * len(uses)

    hurry(monkeypatch, deadline_s=15, timeout_s=5)
    await storage.check()
    await save_small(storage, "new")
    assert body_of(operator, "new/a.png") == NEW
    assert body_of(operator, "way/a.png") == OLD
    await storage.close()


async def test_wrong_credentials_are_a_refusal_that_says_what_to_mend(
    proxy: FaultyProxy, operator: Operator
) -> None:
    operator.put("compute/way/a.png", OLD)
    storage = opened(proxy.endpoint_url, secret="another one")

    for use in (save_small, save_large, look, list_folder, delete, copy):
        with pytest.raises(BackendUnavailable, match="R2_SECRET_ACCESS_KEY"):
            await use(storage, "way")

    assert body_of(operator, "way/a.png") == OLD
    await storage.close()
