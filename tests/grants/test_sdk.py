"""Upload grants with the SDK, synchronous and asynchronous, on a disk and in a bucket."""

import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.conftest import Awaited
from grants.conftest import PNG, sha256_of
from running import Server, running
from services.faulty_proxy import FaultyProxy, faulty_proxy
from services.proxy_faults import answers, does_it_and_resets
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, bucket_variables
from services.trust import TRUST
from stillroom.client import AsyncImageStore, ImageStore, Progress, UnexpectedAnswer, UploadGrant
from stillroom.errors import (
    GrantInvalid,
    InvalidParameter,
    PreconditionFailed,
    TooLarge,
    UploadMissing,
)
from stillroom.local import open_store

pytestmark = pytest.mark.slow

LARGE = PNG + bytes(3 * 1024**2)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedFS
) -> Iterator[dict[str, Server]]:
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("disk", "bucket")}
    secret: dict[str, Any] = {"jwt_secret": "s" * 32, "max_upload_bytes": str(1024**2)}
    with contextlib.ExitStack() as stack:
        servers = {"disk": stack.enter_context(running(folders["disk"], **secret))}
        with pytest.MonkeyPatch.context() as patched:
            for name, value in bucket_variables(seaweed).items():
                patched.setenv(name, value)
            servers["bucket"] = stack.enter_context(running(folders["bucket"], **secret))
        yield servers
    seaweed.empty()


@pytest.fixture(params=["disk", "bucket"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Any]:
    if request.param == "sync":
        with ImageStore(server.url, server.token()) as found:
            yield Awaited(found)
    else:
        async with AsyncImageStore(server.url, server.token()) as found_async:
            yield found_async


async def test_a_file_larger_than_a_form_may_be_is_saved_directly(
    store: Any, folder: str, tmp_path: Path
) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(LARGE)
    seen: list[Progress] = []
    with pytest.raises(TooLarge):
        await store.save(f"{folder}/large.png", file)

    saved = await store.save(f"{folder}/large.png", file, direct=True, progress=seen.append)

    assert (saved.size, saved.sha256) == (len(LARGE), sha256_of(LARGE))
    assert (await store.stat(f"{folder}/large.png")).etag == saved.etag
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert (seen[-1].done, seen[-1].total) == (len(LARGE), len(LARGE))


async def test_streams_and_lifetimes_work_as_in_a_save(store: Any, folder: str) -> None:
    saved = await store.save(f"{folder}/a.png", io.BytesIO(PNG), direct=True, expires_in="7d")

    assert saved.expires_at is not None
    assert saved.sha256 == hashlib.sha256(PNG).hexdigest()


async def test_create_only_is_kept(store: Any, folder: str) -> None:
    await store.save(f"{folder}/a.png", PNG, direct=True, if_none_match="*")

    with pytest.raises(PreconditionFailed):
        await store.save(f"{folder}/a.png", PNG, direct=True, if_none_match="*")
    with pytest.raises(TypeError, match="direct"):
        await store.save(f"{folder}/a.png", PNG, direct=True, unique=True)
    with pytest.raises(TypeError, match="direct"):
        await store.save(f"{folder}/a.png", PNG, direct=True, if_match='"x"')


async def test_the_steps_can_be_taken_one_by_one(store: Any, folder: str) -> None:
    grant = await store.upload_grant(
        f"{folder}/a.png",
        size=len(PNG),
        content_type="image/png",
        expires_in="10m",
        expires_after="2h",
    )
    assert isinstance(grant, UploadGrant)
    with pytest.raises(UploadMissing):
        await store.complete(grant)
    async with httpx.AsyncClient(verify=TRUST) as anyone:
        sent = await anyone.put(grant.url, content=PNG, headers=dict(grant.headers))
        assert sent.status_code == 200, sent.text

    saved = await store.complete(grant.grant)

    assert await store.complete(grant) == saved
    with pytest.raises(GrantInvalid):
        await store.complete("x")
    with pytest.raises(InvalidParameter):
        await store.upload_grant("a", size=0)


@pytest.mark.parametrize("kind", ["disk", "bucket"])
def test_a_script_on_the_machine_saves_directly_without_a_server(
    tmp_path: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name, value in bucket_variables(seaweed).items() if kind == "bucket" else ():
        monkeypatch.setenv(name, value)
    store = open_store(tmp_path, min_free_bytes=0, max_upload_bytes=1000)
    try:
        assert store.save("a.png", PNG, direct=True).sha256 == sha256_of(PNG)
        assert store.read("a.png") == PNG
    finally:
        store.close()


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy(seaweed.endpoint_url) as running_proxy:
        yield running_proxy


@pytest.mark.parametrize("fault", [answers(503, "SlowDown"), does_it_and_resets])
def test_an_upload_that_fails_once_is_sent_again(
    proxy: FaultyProxy,
    seaweed: SeaweedFS,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
) -> None:
    variables = {**bucket_variables(seaweed), "R2_ENDPOINT_URL": proxy.endpoint_url}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with (
        running(tmp_path, jwt_secret="s" * 32) as server,
        ImageStore(server.url, server.token()) as store,
    ):
        store.upload_grant("first.png", size=1)  # the tests of the bucket are done
        failed: list[str] = []

        def choose(exchange: Any) -> Any:
            if exchange.key.startswith("temp/") and exchange.operation == "PutObject":
                failed.append(exchange.key)
                return fault if len(failed) == 1 else None
            return None

        proxy.choose = choose
        saved = store.save("a.png", PNG, direct=True)

    assert len(failed) == 2
    assert saved.sha256 == sha256_of(PNG)
    assert failed[0] not in operator.keys("temp/")


async def test_a_completion_may_take_as_long_as_the_copy_of_a_large_file() -> None:
    seen: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        saved = {"path": "a", "url": "u", "size": 1, "content_type": "c", "sha256": None}
        return httpx.Response(200, json={**saved, "etag": '"e"'})

    transport = httpx.MockTransport(answer)
    with ImageStore("http://a", "token", transport=transport) as store:
        store.complete("x")
    async with AsyncImageStore("http://a", "token", transport=transport) as async_store:
        await async_store.complete("x")

    assert seen == pytest.approx([300, 300])


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "DELETE"},
        {"url": "file:///etc/passwd"},
        {"headers": {"X": "a\r\nY: b"}},
        {"headers": {"X": 1}},
        {"headers": ["X"]},
        {"grant": None},
        {"expires_at": "soon"},
    ],
)
def test_a_grant_that_no_stillroom_issues_is_refused(changes: dict[str, object]) -> None:
    issued = {
        "method": "PUT",
        "url": "http://127.0.0.1/x",
        "headers": {"Content-Type": "image/png"},
        "grant": "x",
        "expires_at": "2026-11-24T15:00:00+00:00",
    }

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**issued, **changes})

    transport = httpx.MockTransport(answer)
    with (
        ImageStore("http://a", "token", transport=transport) as store,
        pytest.raises(UnexpectedAnswer),
    ):
        store.upload_grant("a.png", size=1)
