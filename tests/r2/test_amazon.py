"""A bucket of Amazon S3's ways: virtual hosts, regions, temporary credentials."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from acceptance.migrating import migrate, settings_file
from contract.images import PNG, RULES, key
from r2.conftest import Running
from r2.traps import fetched
from services import stub_faults
from services.stub_amazon import REGION, SESSION_TOKEN, StubAmazonS3
from services.stub_wire import BUCKET
from stillroom.errors import BackendUnavailable
from stillroom.store.address import Addressing, BucketAddress
from stillroom.store.choose import open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource

IMAGES = "/api/v1/storage/images"


pytestmark = pytest.mark.clouds("amazon")

# Addresses


@pytest.mark.parametrize(
    ("endpoint", "addressing", "host", "path"),
    [
        ("https://s3.example.com", "path", "s3.example.com", "/images/k"),
        ("https://s3.example.com", "virtual", "images.s3.example.com", "/k"),
        ("https://S3.Example.com:443", "virtual", "images.s3.example.com", "/k"),
        ("https://s3.example.com:8443", "virtual", "images.s3.example.com:8443", "/k"),
        ("http://s3.example.com/s3", "path", "s3.example.com", "/s3/images/k"),
        ("http://s3.example.com/s3", "virtual", "images.s3.example.com", "/s3/k"),
    ],
)
def test_a_bucket_is_named_in_the_path_or_in_the_host(
    endpoint: str, addressing: Addressing, host: str, path: str
) -> None:
    address = BucketAddress.of(endpoint, "images", addressing)

    assert (address.host, address.path_of("k")) == (host, path)


def test_an_address_of_ipv6_has_its_brackets_in_the_host_field_alone() -> None:
    address = BucketAddress.of("http://[::1]:9000", "images")

    assert (address.hostname, address.host) == ("::1", "[::1]:9000")
    assert address.path_of("") == "/images"


async def test_every_request_names_the_bucket_in_its_host(
    storage: ImageStorage, stub: StubAmazonS3
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    await storage.copy(key("a.png"), key("b.png"))
    await storage.check()
    await storage.delete(key("a.png"))

    assert {request.host for request in stub.requests} == {
        stub.endpoint_url.replace("http://", f"{BUCKET}.")
    }
    assert stub.objects.keys() == {"compute/b.png"}


async def test_path_style_addresses_do_as_well(stub: StubAmazonS3) -> None:
    storage = open_storage(dataclasses.replace(stub.config, addressing="path"), RULES)
    await storage.save(key("a.png"), BytesSource(PNG))
    await storage.close()

    assert stub.requests[0].path == f"/{BUCKET}/compute/a.png"


async def test_without_a_cdn_a_redirect_goes_to_the_virtual_host_and_works(
    running: Running,
) -> None:
    async with running(R2_PUBLIC_URL="") as client:
        await client.post(f"{IMAGES}/a b.png", files={"file": PNG})
        location = (await client.get(f"{IMAGES}/a b.png")).headers["location"]
        page = await client.get("/")

    assert location.startswith(f"http://{BUCKET}.s3.{REGION}.localhost:")
    assert "X-Amz-Security-Token=" in location
    assert (await fetched(location)).content == PNG
    origin = location.partition("/compute/")[0]
    assert f"img-src 'self' blob: {origin};" in page.headers["content-security-policy"]


async def test_with_a_cdn_a_redirect_goes_there(running: Running) -> None:
    async with running() as client:
        await client.post(f"{IMAGES}/a.png", files={"file": PNG})
        answer = await client.get(f"{IMAGES}/a.png")

    assert answer.headers["location"] == "https://cdn.example.com/compute/a.png"


# Regions


@pytest.mark.parametrize("status", [301, 307])
async def test_another_regions_endpoint_is_not_followed_and_the_right_one_is_told(
    running: Running, stub: StubAmazonS3, status: int
) -> None:
    stub.redirect_status = status
    stub.endpoint_url = stub.endpoint_url.replace(REGION, "us-east-1")
    async with running(R2_REGION="us-east-1") as client:
        answer = await client.post(f"{IMAGES}/a.png", files={"file": PNG})
        seen = await client.head(f"{IMAGES}/a.png")
        ready = await client.get("/readyz")

    assert (answer.status_code, seen.status_code, ready.status_code) == (503, 503, 503)
    assert ready.json()["detail"] == (
        "the bucket refuses this server: the bucket is in another region: set R2_REGION to "
        f"{REGION}, and R2_ENDPOINT_URL to that region's endpoint"
    )
    assert {request.host.split(".")[2] for request in stub.requests} == {"us-east-1"}
    assert stub.objects == {}


async def test_a_region_that_is_not_the_buckets_is_told(stub: StubAmazonS3) -> None:
    storage = open_storage(dataclasses.replace(stub.config, region="auto"), RULES)
    with pytest.raises(BackendUnavailable, match=f"set R2_REGION to {REGION}"):
        await storage.save(key("a.png"), BytesSource(PNG))
    await storage.close()


@pytest.mark.parametrize("region", ["<script>", "x" * 40, ""])
async def test_what_a_redirect_says_is_not_passed_on_unchecked(
    storage: ImageStorage, stub: StubAmazonS3, region: str
) -> None:
    stub.faults.append(stub_faults.answers(301, "PermanentRedirect", x_amz_bucket_region=region))

    with pytest.raises(BackendUnavailable, match="set R2_REGION to its own"):
        await storage.save(key("a.png"), BytesSource(PNG))


# Temporary credentials


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "needs their R2_SESSION_TOKEN"),
        ("another", "R2_SESSION_TOKEN does not belong to R2_ACCESS_KEY_ID"),
    ],
)
async def test_a_session_token_that_is_missing_or_wrong_is_named(
    stub: StubAmazonS3, caplog: pytest.LogCaptureFixture, token: str | None, said: str
) -> None:
    storage = open_storage(dataclasses.replace(stub.config, session_token=token), RULES)
    with pytest.raises(BackendUnavailable, match=said):
        await storage.save(key("a.png"), BytesSource(PNG))
    await storage.close()

    assert said in caplog.text


async def test_credentials_that_have_expired_are_named_and_not_shown(
    storage: ImageStorage, stub: StubAmazonS3, caplog: pytest.LogCaptureFixture
) -> None:
    stub.faults.append(stub_faults.answers(400, "ExpiredToken"))

    with pytest.raises(BackendUnavailable, match="restart with new temporary credentials"):
        await storage.save(key("a.png"), BytesSource(PNG))

    assert SESSION_TOKEN not in caplog.text


# Commands


@pytest.mark.slow
async def test_a_disk_is_migrated_into_such_a_bucket(tmp_path: Path, stub: StubAmazonS3) -> None:
    disk = tmp_path / "disk"
    (disk / "compute").mkdir(parents=True)
    (disk / "compute" / "a.png").write_bytes(PNG)
    target = settings_file(
        tmp_path / "amazon.env",
        **stub.variables,
        STILLROOM_DATA_DIR=tmp_path / "rows",
    )

    ran = await asyncio.to_thread(migrate, "--from", disk, "--to", target)

    assert ran.status == 0, ran.out
    assert stub.objects["compute/a.png"].body == PNG
