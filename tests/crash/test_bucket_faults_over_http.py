"""What a server answers while its bucket fails, and what memory that takes."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from crash.bucket_walks import MIB, NEW, OLD, ROUNDS, no_upload_is_left
from running import IMAGES, peak_bytes, reset_peak, running, wait_until_ready
from services import proxy_faults as faults
from services.faulty_proxy import Exchange, Fault, FaultyProxy
from services.proxy_faults import FAULTS, NOT_DONE
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET
from stillroom.store.bucket.storage import BUFFERED_BYTES
from stillroom.store.s3.client import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow]


def test_over_http_trouble_is_503_in_bounded_memory_and_passes(
    proxy: FaultyProxy,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything at once, since a deadline is 20 s: each fault has a folder of its own."""
    set_r2(monkeypatch, proxy.endpoint_url)
    storm = [fault for fault in FAULTS if fault in NOT_DONE]
    folders = {f"http-{fault.__name__}": fault for fault in storm}
    for folder in folders:
        operator.put(f"compute/{folder}/a.png", OLD)
    big = random.Random(2).randbytes(12 * MIB)

    def trouble(asked: Exchange) -> Fault | None:
        if asked.about == ".stillroom/check":
            # It is not asked again until it is too late: an attempt at the end might be cut off.
            return faults.answers(503, "ServiceUnavailable", "Retry-After: 60")
        return folders.get(asked.about.split("/")[1])

    uses: dict[str, Callable[[httpx.Client, str], httpx.Response]] = {
        "save": lambda client, folder: client.post(f"{IMAGES}/{folder}/new.png", files=form(NEW)),
        "save 12 MiB": lambda client, folder: client.post(
            f"{IMAGES}/{folder}/big.bin", files=form(big)
        ),
        "save 17 MiB": lambda client, folder: client.post(
            f"{IMAGES}/{folder}/parts.bin", files=form(big + big[: 5 * MIB])
        ),
        "get": lambda client, folder: client.get(f"{IMAGES}/{folder}/a.png"),
        "head": lambda client, folder: client.head(f"{IMAGES}/{folder}/a.png"),
        "list": lambda client, folder: client.get(IMAGES, params={"prefix": f"{folder}/"}),
        "delete": lambda client, folder: client.delete(f"{IMAGES}/{folder}/a.png"),
    }
    # Nothing compares the bucket with the search index after the start: an image that was looked at
    # is known to be there for a minute, and needs no request.
    with running(tmp_path, sweep_interval_seconds="0") as server, server.client() as client:
        assert uses["save 17 MiB"](client, "warm").status_code == 200
        before = reset_peak(server.pid)
        proxy.choose = trouble

        def use(case: tuple[str, str]) -> httpx.Response:
            name, folder = case
            with server.client() as client:
                return uses[name](client, folder)

        # Seven parts are all that the budget holds: more large ones wait for those before them.
        large_ones = list(folders)[: 3 if ROUNDS == 1 else None]
        cases = [
            (name, folder)
            for folder in folders
            for name in uses
            if folder in large_ones or "MiB" not in name
        ]
        with ThreadPoolExecutor(len(cases)) as pool:
            answers = list(pool.map(use, cases))
            ready = client.get("/readyz")
        growth = peak_bytes(server.pid) - before

        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
        assert (ready.status_code, ready.json()["detail"]) == (
            503,
            "the bucket is out of reach: it responds 503 ServiceUnavailable",
        )
        # The budget is for bodies; so many connections have some room of their own besides.
        assert growth < BUFFERED_BYTES + 32 * MIB, f"grew by {growth / MIB:.1f} MiB"
        assert proxy.connections <= IN_FLIGHT

        proxy.choose = lambda _asked: None
        wait_until_ready(server)
        for folder in folders:
            for name in ("save", "get", "head", "list", "delete"):
                assert uses[name](client, folder).status_code in (200, 302), (folder, name)
            assert operator.keys(f"compute/{folder}/") == [f"compute/{folder}/new.png"]
        asyncio.run(no_upload_is_left(operator))


def form(data: bytes) -> dict[str, bytes]:
    return {"file": data}


def set_r2(environment: pytest.MonkeyPatch, endpoint_url: str) -> None:
    environment.setenv("R2_ENDPOINT_URL", endpoint_url)
    environment.setenv("R2_ACCESS_KEY_ID", KEY_ID)
    environment.setenv("R2_SECRET_ACCESS_KEY", SECRET)
    environment.setenv("R2_BUCKET_NAME", BUCKET)
    environment.setenv("R2_PUBLIC_URL", "https://cdn.example.com")
