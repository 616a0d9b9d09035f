"""What a bucket enforces is found out, counted, and made up for where it is missing."""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from contract.memory_store import MemoryObjectStore
from grants.conftest import GRANTS, IMAGES, PNG, Grant, sha256_of
from in_process import JWT_SECRET, started
from patience import hurry
from r2.traps import fetched
from services import stub_wire
from services.stub_amazon import StubAmazonS3
from services.stub_r2 import Conditions, StubR2, served
from services.trust import TRUST
from stillroom.store.bucket.storage import R2ImageStorage
from stillroom.store.values import SaveRules

pytestmark = pytest.mark.slow

MIB = 1024**2

FIRST = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
SECOND = bytes(
    byte ^ 0x80 if at in (19, 45, 59, 83, 109, 123) else byte for at, byte in enumerate(FIRST)
)
"""Another file with the same MD5."""


@dataclasses.dataclass
class Bucket:
    stub: StubR2
    client: httpx.AsyncClient

    async def grant(self, data: bytes = PNG, path: str = "a.png", **terms: object) -> Grant:
        content = {"path": path, "size": len(data), **terms}
        answer = await self.client.post(GRANTS, json=content)
        assert answer.status_code == 200, answer.text
        found: Grant = answer.json()
        return found

    async def put(
        self, grant: Grant, data: bytes = PNG, more: Mapping[str, str] | None = None
    ) -> int:
        url = httpx.URL(grant["url"])
        headers = {**grant["headers"], "host": url.netloc.decode(), **(more or {})}
        async with httpx.AsyncClient(verify=TRUST) as http:
            here = url.copy_with(host="127.0.0.1")
            return (await http.put(here, content=data, headers=headers)).status_code

    async def complete(self, grant: Grant) -> httpx.Response:
        content = {"grant": grant["grant"]}
        return await self.client.post(f"{GRANTS}/complete", json=content)

    @property
    def temporary(self) -> list[str]:
        return [key for key in self.stub.objects if not key.startswith("compute/")]


@pytest.fixture(params=["r2", "amazon"])
def cloud(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bucket(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bucket]:
    stub = StubR2() if cloud == "r2" else StubAmazonS3()
    async with served(stub), opened(stub, tmp_path, monkeypatch) as found:
        yield found


@contextlib.asynccontextmanager
async def opened(
    stub: StubR2, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str
) -> AsyncIterator[Bucket]:
    variables = {
        **stub.variables,
        "STILLROOM_JWT_SECRET": JWT_SECRET,
        "STILLROOM_DATA_DIR": str(folder),
        "STILLROOM_SWEEP_INTERVAL_SECONDS": "0",
        **more,
    }
    async with started(variables, monkeypatch) as (_, client):
        yield Bucket(stub, client)


async def test_a_large_file_costs_two_operations_of_each_class(bucket: Bucket) -> None:
    data = PNG + bytes(40 * MIB)
    await bucket.grant()  # the tests of the bucket are done once
    bucket.stub.requests.clear()

    grant = await bucket.grant(data, sha256=sha256_of(data))
    assert await bucket.put(grant, data) == 200
    answer = await bucket.complete(grant)

    assert answer.status_code == 200, answer.text
    names = [stub_wire.operation_of(request) for request in bucket.stub.requests]
    # The search index reads the image after it was copied, which is counted apart.
    of_index = [
        request
        for request in bucket.stub.requests[names.index("CopyObject") + 1 :]
        if stub_wire.key_of(request) == "compute/a.png"
    ]
    asked = [request for request in bucket.stub.requests if request not in of_index]
    names = sorted(map(stub_wire.operation_of, asked))
    assert names == ["CopyObject", "DeleteObject", "GetObject", "HeadObject", "PutObject"]
    ranges = [request.headers.get("range") for request in asked]
    assert [one for one in ranges if one is not None] == ["bytes=0-65535"]
    assert answer.json()["sha256"] == sha256_of(data)
    assert bucket.stub.objects["compute/a.png"].body == data
    assert bucket.temporary == []


async def test_the_image_has_the_properties_of_a_save(bucket: Bucket) -> None:
    grant = await bucket.grant(sha256=sha256_of(PNG))
    await bucket.put(grant)
    await bucket.complete(grant)
    files = {"file": PNG}
    assert (await bucket.client.post(f"{IMAGES}/b.png", files=files)).status_code == 200

    granted, saved = (bucket.stub.objects[f"compute/{name}.png"].headers for name in "ab")

    for name, value in saved.items():
        assert name == "x-amz-meta-save-id" or granted[name] == value
    assert granted.keys() == saved.keys()
    assert f"/temp/{granted['x-amz-meta-save-id']}?" in grant["url"]


async def test_without_a_declared_hash_the_hash_is_not_known(bucket: Bucket) -> None:
    grant = await bucket.grant()
    # The stub of R2 does not check signatures, and takes any header.
    is_lax = not isinstance(bucket.stub, StubAmazonS3)
    await bucket.put(grant, more={"x-amz-meta-sha256": "0" * 64} if is_lax else {})

    assert (await bucket.complete(grant)).json()["sha256"] is None


@pytest.mark.parametrize("cloud", ["amazon"])
async def test_the_length_is_signed_where_the_bucket_enforces_it(bucket: Bucket) -> None:
    grant = await bucket.grant()

    assert grant["headers"]["Content-Length"] == str(len(PNG))
    assert await bucket.put(grant, PNG + b"x", {"Content-Length": str(len(PNG) + 1)}) == 403


@pytest.mark.parametrize("cloud", ["r2"])
@pytest.mark.parametrize("data", [PNG + b"x", PNG[:-1], b""])
async def test_another_length_is_noticed_where_the_bucket_does_not_enforce_it(
    bucket: Bucket, data: bytes
) -> None:
    grant = await bucket.grant()
    assert "Content-Length" not in grant["headers"]
    assert await bucket.put(grant, data) == 200

    answer = await bucket.complete(grant)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_upload")
    assert bucket.stub.objects == {}


async def test_a_declared_hash_is_believed_only_if_the_bucket_refuses_wrong_ones(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(StubR2() if cloud == "r2" else StubAmazonS3()) as stub:
        stub.checks_sha256 = False
        async with opened(stub, tmp_path, monkeypatch) as bucket:
            wrong = await bucket.grant(sha256=sha256_of(PNG))
            assert "x-amz-checksum-sha256" not in wrong["headers"]
            assert await bucket.put(wrong, PNG[:-1] + b"x") == 200
            answer = await bucket.complete(wrong)
            assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
            assert stub.objects == {}

            right = await bucket.grant(sha256=sha256_of(PNG))
            await bucket.put(right)
            assert (await bucket.complete(right)).json()["sha256"] == sha256_of(PNG)


async def test_a_bucket_that_never_overwrites_is_not_believed_to_check_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(StubR2()) as stub:
        stub.checks_sha256, stub.refuses_overwrites = False, True
        async with opened(stub, tmp_path, monkeypatch) as bucket:
            grant = await bucket.grant(sha256=sha256_of(PNG))

            assert grant["headers"].keys() & {"x-amz-checksum-sha256", "Content-Length"} == set()
            assert await bucket.put(grant, PNG[:-1] + b"x") == 200
            assert (await bucket.complete(grant)).json()["code"] == "digest_mismatch"


class ReplacingBucket(StubR2):
    """A bucket in which a client replaces its upload by a file with the same MD5 after a read."""

    async def carry_out(self, request: web.Request) -> web.StreamResponse:
        answer, key = await super().carry_out(request), stub_wire.key_of(request)
        if stub_wire.operation_of(request) == "GetObject" and key.startswith("temp/"):
            self.objects[key].body = SECOND
        return answer


async def test_a_file_with_the_same_md5_does_not_replace_a_checked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FIRST != SECOND
    assert hashlib.md5(FIRST).digest() == hashlib.md5(SECOND).digest()
    async with served(ReplacingBucket()) as stub:
        stub.checks_sha256, stub.conditions = False, Conditions.IGNORED
        async with opened(stub, tmp_path, monkeypatch) as bucket:
            grant = await bucket.grant(FIRST, sha256=sha256_of(FIRST))
            assert await bucket.put(grant, FIRST) == 200

            assert (await bucket.complete(grant)).json()["sha256"] == sha256_of(FIRST)
            assert stub.objects["compute/a.png"].body == FIRST


async def test_two_processes_copy_a_file_once_and_respond_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        served(StubR2()) as stub,
        opened(stub, tmp_path, monkeypatch) as one,
        opened(stub, tmp_path, monkeypatch) as two,
    ):
        grant = await one.grant()
        assert await one.put(grant) == 200

        answers = await asyncio.gather(*(each.complete(grant) for each in (one, two, one, two)))

        assert [answer.status_code for answer in answers] == [200] * 4
        assert len({answer.content for answer in answers}) == 1
        assert stub.operations["CopyObject"] == 1


@pytest.mark.parametrize("kind", [Conditions.IGNORED, Conditions.REFUSED])
async def test_without_conditional_copies_small_files_are_put_on_condition(
    cloud: str, kind: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(StubR2() if cloud == "r2" else StubAmazonS3()) as stub:
        stub.copy_conditions = kind
        async with opened(stub, tmp_path, monkeypatch) as bucket:
            first, second = [await bucket.grant(if_none_match="*") for _ in range(2)]
            for grant in (first, second):
                assert await bucket.put(grant) == 200

            saved = await bucket.complete(first)
            assert saved.status_code == 200, saved.text
            assert (await bucket.complete(first)).content == saved.content
            assert (await bucket.complete(second)).status_code == 412
            content = {"path": "b", "size": 16 * MIB + 1, "if_none_match": "*"}
            answer = await bucket.client.post(GRANTS, json=content)
            assert (answer.status_code, answer.json()["code"]) == (501, "condition_unsupported")
            del content["if_none_match"]
            assert (await bucket.client.post(GRANTS, json=content)).status_code == 200


async def test_where_a_second_upload_is_possible_it_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(StubR2()) as stub:
        stub.conditions = Conditions.IGNORED
        async with opened(stub, tmp_path, monkeypatch) as bucket:
            grant = await bucket.grant()
            assert "If-None-Match" not in grant["headers"]
            assert await bucket.put(grant) == 200
            first = await bucket.complete(grant)
            assert await bucket.put(grant, PNG[::-1]) == 200

            assert (await bucket.complete(grant)).content == first.content
            assert stub.objects["compute/a.png"].body == PNG


async def test_another_machine_finds_a_completed_grant_in_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        served(StubR2()) as stub,
        opened(stub, tmp_path / "one", monkeypatch) as one,
        opened(stub, tmp_path / "two", monkeypatch) as two,
    ):
        grant = await one.grant()
        assert await one.put(grant) == 200
        first = await one.complete(grant)
        assert first.status_code == 200, first.text
        assert await one.put(grant, PNG[:-1] + b"x") == 200  # the first upload was deleted

        assert (await two.complete(grant)).content == first.content
        assert stub.objects["compute/a.png"].body == PNG
        assert one.temporary == []


async def test_an_upload_may_not_become_a_copy_of_another_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubAmazonS3()
    stub.takes_unsigned_headers = True
    async with served(stub), opened(stub, tmp_path, monkeypatch) as bucket:
        answer = await bucket.client.post(GRANTS, json={"path": "a", "size": 1})

        assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")
        assert "x-amz-copy-source" in answer.json()["detail"]
        assert stub.objects == {}


async def test_a_bucket_that_does_not_compare_signed_headers_grants_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(StubR2()) as stub, opened(stub, tmp_path, monkeypatch) as bucket:
        stub.takes_forged_uploads = True
        answer = await bucket.client.post(GRANTS, json={"path": "a", "size": 1})
        assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")
        assert "not signed" in answer.json()["detail"]
        assert stub.objects == {}

        stub.takes_forged_uploads = False
        await bucket.grant()


async def test_the_tests_of_the_bucket_are_done_once_and_leave_nothing(bucket: Bucket) -> None:
    await asyncio.gather(*(bucket.grant() for _ in range(8)))
    await bucket.grant()

    assert bucket.stub.objects == {}
    assert bucket.stub.probes["PutObject"] <= 9
    assert bucket.stub.probes["CopyObject"] <= 3
    assert bucket.stub.operations.total() == 0


async def test_a_bucket_that_is_away_grants_nothing_and_is_asked_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> object:
        return stub_wire.error(503, "SlowDown")

    with monkeypatch.context() as patched:
        patched.setattr(bucket.stub, "carry_out", fail)
        hurry(patched, deadline_s=1.5, timeout_s=0.4)
        answer = await bucket.client.post(GRANTS, json={"path": "a", "size": 1})
        assert answer.status_code == 503

    await bucket.grant()


async def test_the_presigned_url_is_of_the_bucket_and_not_of_the_cdn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(StubR2()) as stub:
        more = {"R2_PUBLIC_URL": "https://cdn.example.com"}
        async with opened(stub, tmp_path, monkeypatch, **more) as bucket:
            grant = await bucket.grant()
            assert grant["url"].startswith(f"{stub.endpoint_url}/images/temp/")
            await bucket.put(grant)
            saved = (await bucket.complete(grant)).json()
            assert saved["url"] == "https://cdn.example.com/compute/a.png"
            assert (await fetched(f"{stub.endpoint_url}/images/temp/x")).status_code != 200


async def test_a_driver_without_presigned_uploads_grants_none() -> None:
    storage = R2ImageStorage(
        MemoryObjectStore(),
        SaveRules(1000),
        description="memory",
        public_url=None,
        cache_control="no-store",
        media_cache_control="no-store",
    )

    assert storage.uploads.store is None
    assert storage.uploads.unsupported is not None
