"""R2_IMAGE_TRANSFORMATIONS: thumbnails by Cloudflare, as its documents describe them.

https://developers.cloudflare.com/images/transform-images/transform-via-url/
"""

import pytest

from pictures import picture
from r2.conftest import Running
from services import stub_faults, stub_r2
from services.stub_r2 import StubR2
from stillroom.errors import ConfigurationError
from videos import Mp4, frames

IMAGES = "/api/v1/storage/images"
KEPT = "metadata=copyright"
CDN = "https://cdn.example.com/cdn-cgi/image"


@pytest.fixture(autouse=True)
def image(stub: StubR2) -> None:
    for path in ("a.png", "a b/кошка,1.png"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(
            picture(), {"content-type": "image/png"}, '"e"'
        )


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("width=200", "width=256,height=2048,fit=scale-down,format=webp,quality=80"),
        (
            "width=64&height=100&fit=cover&format=jpeg&quality=71",
            "width=64,height=128,fit=crop,format=jpeg,quality=80",
        ),
        ("format=jpeg", "width=2048,height=2048,fit=scale-down,format=jpeg,quality=80"),
        ("fit=cover&height=64", "width=2048,height=64,fit=scale-down,format=webp,quality=80"),
    ],
)
async def test_the_redirect_says_the_same_in_cloudflares_words(
    running: Running, query: str, options: str
) -> None:
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        found = await client.get(f"{IMAGES}/a.png?{query}")

    assert found.status_code == 302
    assert found.headers["location"] == f"{CDN}/{options},{KEPT},anim=false/compute/a.png"
    assert found.headers["cache-control"] == "private, no-store"


async def test_a_name_is_quoted_and_a_path_of_the_cdn_is_part_of_the_source(
    running: Running,
) -> None:
    async with running(
        R2_IMAGE_TRANSFORMATIONS="true", R2_PUBLIC_URL="https://cdn.example.com/some/images"
    ) as client:
        found = await client.get(f"{IMAGES}/a b/кошка,1.png?width=64")

    location = found.headers["location"]
    assert location.startswith(f"{CDN}/width=64,")
    assert location.endswith("/some/images/compute/a%20b/%D0%BA%D0%BE%D1%88%D0%BA%D0%B0%2C1.png")


async def test_what_cloudflare_does_not_make_is_made_here(running: Running) -> None:
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        made = await client.get(f"{IMAGES}/a.png?width=64&format=png")

    assert (made.status_code, made.headers["content-type"]) == (200, "image/png")


async def test_head_says_that_it_can_be_had_and_never_redirects(running: Running) -> None:
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        headed = await client.head(f"{IMAGES}/a.png?width=64")
        missing = await client.head(f"{IMAGES}/none.png?width=64")

    assert (headed.status_code, headed.headers["content-type"]) == (200, "image/webp")
    assert "content-length" not in headed.headers
    assert missing.status_code == 404


async def test_what_is_missing_or_asked_for_badly_is_refused_by_us(
    running: Running, stub: StubR2
) -> None:
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        assert (await client.get(f"{IMAGES}/none.png?width=64")).status_code == 404
        stub.operations.clear()
        assert (await client.get(f"{IMAGES}/a.png?width=none")).status_code == 422
        del client.headers["authorization"]
        assert (await client.get(f"{IMAGES}/a.png?width=64")).status_code == 401

    assert stub.operations == {}


@pytest.mark.parametrize(
    ("query", "options", "content_type"),
    [
        ("width=200", "width=256,height=2000,fit=scale-down,format=jpg", "image/jpeg"),
        ("width=64&height=64&fit=cover", "width=64,height=64,fit=cover,format=jpg", "image/jpeg"),
        ("width=64&format=png", "width=64,height=2000,fit=scale-down,format=png", "image/png"),
    ],
)
async def test_of_a_video_cloudflare_makes_its_first_frame(
    running: Running, stub: StubR2, query: str, options: str, content_type: str
) -> None:
    stub.objects["compute/a b.mp4"] = stub_r2.Stored(b"", {"content-type": "video/mp4"}, '"e"')
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        found = await client.get(f"{IMAGES}/a b.mp4?{query}")
        again = await client.get(f"{IMAGES}/a b.mp4?{query}")
        headed = await client.head(f"{IMAGES}/a b.mp4?{query}")

    source = "/compute/a%20b.mp4"
    place = f"https://cdn.example.com/cdn-cgi/media/mode=frame,time=0s,{options}{source}"
    assert (found.status_code, found.headers["location"]) == (302, place)
    assert found.headers["cache-control"] == "private, no-store"
    assert again.headers["location"] == place
    assert (headed.status_code, headed.headers["content-type"]) == (200, content_type)


async def test_a_video_that_was_just_saved_is_known_to_be_one(
    running: Running, stub: StubR2
) -> None:
    async with running(R2_IMAGE_TRANSFORMATIONS="true") as client:
        await client.post(f"{IMAGES}/clip", files={"file": Mp4(frames()).file()})
        stub.operations.clear()
        found = await client.get(f"{IMAGES}/clip?width=64")

    assert "/cdn-cgi/media/" in found.headers["location"]
    assert stub.operations == {}


async def test_without_a_cdn_it_stops_the_start(running: Running) -> None:
    with pytest.raises(ConfigurationError, match="R2_PUBLIC_URL"):
        async with running(R2_IMAGE_TRANSFORMATIONS="true", R2_PUBLIC_URL=""):
            pass


async def test_an_original_is_fetched_whole_and_of_one_save(
    running: Running, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.store.bucket.objects._READ_BYTES", 1000)
    monkeypatch.setattr("stillroom.features.pictures.images._KEPT_IN_MEMORY_BYTES", 0)
    async with running() as client:
        await client.post(f"{IMAGES}/b.png", files={"file": picture(size=(60, 60))})
        stub.operations.clear()
        made = await client.get(f"{IMAGES}/b.png?width=64")

    assert made.status_code == 200
    assert stub.operations["GetObject"] > 5


async def test_a_bucket_in_trouble_is_503_and_the_next_one_is_made(
    running: Running, stub: StubR2
) -> None:
    async with running() as client:
        stub.faults.extend([stub_faults.answers(503, "SlowDown", retry_after="60")] * 20)
        failed = await client.get(f"{IMAGES}/a.png?width=64")
        stub.faults.clear()
        made = await client.get(f"{IMAGES}/a.png?width=64")

    assert (failed.status_code, failed.headers["retry-after"]) == (503, "5")
    assert made.status_code == 200
