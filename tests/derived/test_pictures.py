"""Thumbnails of stored images, by HTTP, on a disk and in a bucket."""

from collections.abc import Callable

import pytest
from PIL import Image

from derived.conftest import Running, Store, halves, is_near
from in_process import IMAGES
from pictures import encoded, picture
from stillroom.features.pictures.decoders import Decoders
from videos import Mp4, frames

pytestmark = pytest.mark.slow

RED, BLUE = (255, 0, 0), (0, 0, 255)


# Sizes


SIZES = [
    ("width=64", (64, 32)),
    ("width=1", (64, 32)),
    ("width=65", (128, 64)),
    ("width=100&height=100", (128, 64)),
    ("height=100", (256, 128)),
    ("width=257&height=64", (128, 64)),
    ("width=1000", (600, 300)),
    ("width=99999999", (600, 300)),
    ("format=png", (600, 300)),
    ("quality=1", (600, 300)),
    ("width=128&height=128&fit=cover", (128, 128)),
    ("width=512&height=512&fit=cover", (512, 300)),
    ("width=2048&height=2048&fit=cover", (600, 300)),
    ("width=128&fit=cover", (128, 64)),
    ("w%69dth=64", (64, 32)),
]


async def test_a_picture_fits_the_next_size_and_is_never_larger_than_the_image(
    store: Store,
) -> None:
    await store.save("a.png", encoded(halves((600, 300))))

    for query, size in SIZES:
        assert (await store.picture("a.png", query)).size == size, query


async def test_no_side_is_longer_than_2048_pixels(store: Store) -> None:
    await store.save("a.png", encoded(Image.new("L", (100, 5000))))

    assert (await store.picture("a.png", "width=64")).size == (41, 2048)
    assert (await store.picture("a.png", "format=jpeg")).size == (41, 2048)


async def test_cover_cuts_off_what_hangs_over_on_both_sides(store: Store) -> None:
    image = halves((400, 100))
    image.paste("lime", (0, 0, 100, 100))
    image.paste("lime", (300, 0, 400, 100))
    await store.save("a.png", encoded(image))

    made = await store.picture("a.png", "width=64&height=64&fit=cover&format=png")

    assert made.size == (64, 64)
    assert is_near(made.getpixel((5, 30)), RED)
    assert is_near(made.getpixel((58, 30)), BLUE)


async def test_the_format_is_the_one_asked_for_and_webp_else(store: Store) -> None:
    await store.save("a.gif", encoded(halves((200, 100)), "GIF"))

    for form in ("", "webp", "jpeg", "png"):
        asked = f"&format={form}" if form else ""
        made = await store.picture("a.gif", f"width=64{asked}")
        assert made.format == (form or "webp").upper()
        assert is_near(made.convert("RGB").getpixel((10, 16)), RED)
        assert is_near(made.convert("RGB").getpixel((54, 16)), BLUE)


async def test_less_quality_takes_fewer_bytes(store: Store) -> None:
    await store.save("a.png", picture(size=(300, 300)))

    sizes = [
        len((await store.get("a.png", f"width=256&quality={quality}")).content)
        for quality in (10, 50, 100)
    ]

    assert sizes == sorted(set(sizes))


BAD_PARAMETERS = [
    "width=0",
    "width=",
    "width=-64",
    "width=64.5",
    "width=1e3",
    "width=%36%FF",
    "width=٦٤",
    "height=x",
    "fit=fill",
    "fit=",
    "format=avif",
    "format=svg",
    "quality=0",
    "quality=101",
    "quality=high",
    "width=64&width=64",
    "width=64&w%69dth=128",
]


async def test_a_bad_parameter_is_422(store: Store) -> None:
    await store.save("a.png", picture())

    for query in BAD_PARAMETERS:
        answer = await store.get("a.png", query)
        assert answer.status_code == 422, (query, answer.text)
        assert answer.json()["detail"][0]["loc"][0] == "query"
        assert (await store.client.head(f"{IMAGES}/a.png?{query}")).status_code == 422


async def test_parameters_that_nobody_knows_are_left_alone(store: Store) -> None:
    data = picture()
    await store.save("a.png", data)

    answer = await store.get("a.png", "v=2&Width=64&%ff=%&size")

    if answer.status_code == 302:
        assert answer.headers["location"] == "https://cdn.example.com/compute/a.png"
    else:
        assert answer.content == data


# What cannot be decoded


def flood(size: tuple[int, int]) -> bytes:
    """A PNG of some kilobytes that is huge when it is decoded."""
    image = Image.new("1", size)
    return encoded(image)


def damaged(data: bytes) -> bytes:
    """Zeros in place of its header, and its end as it was."""
    return data[:12] + bytes(48) + data[60:]


def holed(data: bytes) -> bytes:
    """Ones in place of some of its pixels, and its parts as they were."""
    return data[:2000] + b"\xff" * 100 + data[2100:]


CUT_OFF = frozenset(
    (
        "signature alone",
        "a short png",
        "a short jpeg",
        "a short webp",
        "a short gif",
        "a short avif",
    )
)

BAD: dict[str, Callable[[], bytes]] = {
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
    "html": lambda: b"<!DOCTYPE html><script>1</script>",
    "text": lambda: b"no image at all",
    "tiff": lambda: encoded(halves((64, 64)), "TIFF"),
    "icon": lambda: encoded(halves((64, 64)), "ICO"),
    "pdf": lambda: encoded(halves((64, 64)), "PDF"),
    "postscript": lambda: encoded(halves((64, 64)), "EPS"),
    "signature alone": lambda: b"\x89PNG\r\n\x1a\n",
    "a short png": lambda: picture(size=(300, 300))[:-5000],
    "a short jpeg": lambda: picture(form="JPEG", size=(300, 300))[:-5000],
    "a short webp": lambda: picture(form="WEBP", size=(300, 300))[:-5000],
    "a short gif": lambda: picture(form="GIF", size=(300, 300))[:-5000],
    "a short avif": lambda: picture(form="AVIF", size=(300, 300))[:-5000],
    "a damaged png": lambda: damaged(picture(size=(300, 300))),
    "a damaged png with a trailer": lambda: holed(picture(size=(300, 300))) + bytes(100_000),
    "a damaged gif with a trailer": lambda: holed(picture(form="GIF", size=(300, 300))) + b"more",
    "a damaged jpeg": lambda: damaged(picture(form="JPEG", size=(300, 300))) + bytes(100),
    "a damaged webp": lambda: damaged(picture(form="WEBP", size=(300, 300))),
    "a flood of pixels": lambda: flood((12_000, 12_000)),
    "a side without end": lambda: flood((2_000_000, 60)),
}


async def test_what_cannot_be_decoded_is_415_and_stays_as_it_is(store: Store) -> None:
    for kind, make in BAD.items():
        etag = await store.save("bad.png", make())

        for query in ("width=64", "format=jpeg&quality=5", "width=64"):
            answer = await store.get("bad.png", query)
            assert answer.status_code == 415, (kind, answer.text)
            assert answer.json()["code"] == "unsupported_media"
            assert answer.json().get("cut_off") == (True if kind in CUT_OFF else None), kind
        headed = await store.client.head(f"{IMAGES}/bad.png?width=64")

        assert (headed.status_code, headed.content) == (415, b"")
        assert (await store.client.head(f"{IMAGES}/bad.png")).headers["etag"] == etag
    assert store.kept() == []


async def test_of_a_video_the_poster_beside_it_is_made_smaller(store: Store) -> None:
    video = Mp4(frames()).file()
    long = f"{'v' * 251}.mp4"
    for path in ("a.mp4", "b.mp4", "c.mp4", long):
        await store.save(path, video)
    await store.save("a.mp4.poster.webp", encoded(halves((600, 300)), "WEBP"))
    await store.save("c.mp4.poster.webp", video)

    assert (await store.picture("a.mp4", "width=64")).size == (64, 32)
    headed = await store.client.head(f"{IMAGES}/a.mp4?width=64")
    assert (headed.status_code, headed.headers["content-type"]) == (200, "image/webp")
    for path in ("b.mp4", "c.mp4", long):
        refused = await store.get(path, "width=64")
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media"), path
        assert (await store.client.head(f"{IMAGES}/{path}?width=64")).status_code == 415
    assert ".poster.webp" in (await store.get("b.mp4", "width=64")).json()["detail"]

    await store.save("a.mp4.poster.webp", encoded(halves((100, 300)), "WEBP"))
    assert (await store.picture("a.mp4", "width=64&height=64")).size == (21, 64)


async def test_the_bound_of_pixels_is_a_setting(running: Running) -> None:
    async with running(STILLROOM_DERIVED_MAX_PIXELS="10000") as store:
        await store.save("a.png", picture(size=(100, 100)))
        await store.save("b.png", picture(size=(100, 101)))

        assert (await store.get("a.png", "width=64")).status_code == 200
        assert (await store.get("b.png", "width=64")).status_code == 415


# HTTP


async def test_head_says_what_get_says_and_a_picture_is_served_like_an_image(store: Store) -> None:
    await store.save("a.png", encoded(halves((600, 300))))

    got = await store.get("a.png", "width=256")
    headed = await store.client.head(f"{IMAGES}/a.png?width=256")

    assert headed.content == b""
    assert headed.headers == got.headers
    assert int(got.headers["content-length"]) == len(got.content)
    assert got.headers["etag"].startswith('"')
    assert got.headers["cache-control"] == "private, max-age=0, must-revalidate"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert "content-disposition" not in got.headers
    part = await store.get("a.png", "width=256", range="bytes=3-6")
    assert (part.status_code, part.content) == (206, got.content[3:7])


async def test_an_unchanged_picture_is_304_without_being_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save("a.png", picture())
    first = await store.get("a.png", "width=64")
    for file in store.kept():
        file.unlink()
    monkeypatch.setattr(Decoders, "derive", None)

    again = await store.get("a.png", "width=64", **{"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


async def test_conditions_hold_of_the_picture_itself(store: Store) -> None:
    etag = await store.save("a.png", picture())
    made = await store.get("a.png", "width=64")

    assert made.headers["etag"] != etag
    for headers, status in (
        ({"if-none-match": etag}, 200),
        ({"if-none-match": "*"}, 304),
        ({"if-match": etag}, 412),
        ({"if-match": made.headers["etag"]}, 200),
        ({"if-match": '"x"', "if-none-match": made.headers["etag"]}, 412),
    ):
        assert (await store.get("a.png", "width=64", **headers)).status_code == status, headers


async def test_every_picture_has_an_etag_of_its_own_and_another_save_others(store: Store) -> None:
    await store.save("a.png", picture(1, size=(300, 200)))
    queries = ("width=64", "width=128", "format=jpeg", "quality=10", "width=64&height=64&fit=cover")
    before = {(await store.get("a.png", query)).headers["etag"] for query in queries}
    await store.save("a.png", picture(2, size=(300, 200)))
    after = {(await store.get("a.png", query)).headers["etag"] for query in queries}

    assert len(before | after) == 2 * len(queries)


async def test_requests_that_come_to_the_same_share_a_picture(store: Store) -> None:
    await store.save("a.png", picture(size=(300, 200)))
    for query in (
        "width=100",
        "width=128",
        "width=65&fit=cover",
        "width=128&height=4000&fit=contain&format=webp&quality=71",
        "quality=80&width=0128",
    ):
        assert (await store.get("a.png", query)).status_code == 200

    assert len(store.kept()) == 1


async def test_a_missing_image_is_404_and_so_is_its_picture(store: Store) -> None:
    assert (await store.get("none.png", "width=64")).status_code == 404
    assert (await store.client.head(f"{IMAGES}/none.png?width=64")).status_code == 404
    await store.save("a.png", picture())
    assert (await store.get("a.png", "width=64")).status_code == 200
    await store.client.delete(f"{IMAGES}/a.png")
    assert (await store.get("a.png", "width=64")).status_code == 404
