"""Smaller pictures of stored images, by HTTP, on a disk and in a bucket."""

import asyncio
import hashlib
import importlib.metadata
import io
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image

from derived.conftest import IMAGES, JWT_SECRET, Running, Store, encoded, halves, is_near
from generation import carriers as at
from pictures import picture
from services.exiftool import read_by_exiftool
from stillroom.auth.tokens import mint_token
from stillroom.derived import images
from stillroom.derived.decoders import Decoders
from stillroom.generation.ai_mark import TRAINED
from stillroom.generation.reading import find_in
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.http.derivation import Derivation
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


# Cache and processes


async def test_a_picture_is_made_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.save("a.png", picture(size=(300, 200)))
    first = await store.get("a.png", "width=64")
    monkeypatch.setattr(Decoders, "derive", None)

    second = await store.get("a.png", "width=64")

    assert second.content == first.content
    assert second.headers == first.headers


async def test_one_decoding_does_for_all_who_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Derivation] = []
    derive = Decoders.derive

    async def counted(self: Decoders, file: int, wanted: Derivation) -> bytes:
        made.append(wanted)
        return await derive(self, file, wanted)

    monkeypatch.setattr(Decoders, "derive", counted)
    await store.save("a.png", picture(size=(1000, 1000)))
    answers = await asyncio.gather(*(store.get("a.png", "width=512") for _ in range(40)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(made) == 1


async def test_whoever_gives_up_leaves_the_others_their_picture(store: Store) -> None:
    await store.save("a.png", picture(size=(1000, 1000)))
    first = asyncio.ensure_future(store.get("a.png", "width=512"))
    while not store.derived.decoder_pids:  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.001)  # until it holds; there is a deadline
    second = asyncio.ensure_future(store.get("a.png", "width=512"))
    await asyncio.sleep(0)  # one turn of the event loop
    first.cancel()

    assert (await second).status_code == 200


async def test_no_path_leads_to_the_cache_and_no_listing_shows_it(store: Store) -> None:
    await store.save("a.png", picture())
    await store.get("a.png", "width=64")

    (kept,) = store.kept()
    assert (await store.client.get(IMAGES)).json() == ["a.png"]
    inside = f".stillroom/derived/{kept.parent.name}/{kept.name}"
    for path in (inside, f"..%2f{inside.replace('/', '%2f')}"):
        assert (await store.get(path)).status_code in (404, 422)


async def test_without_room_for_a_cache_pictures_are_made_all_the_same(running: Running) -> None:
    async with running(STILLROOM_DERIVED_CACHE_BYTES="0") as store:
        await store.save("a.png", picture())
        for _ in range(2):
            assert (await store.get("a.png", "width=64")).status_code == 200
        assert store.kept() == []


async def test_a_cache_that_cannot_be_written_costs_no_answer(store: Store) -> None:
    (store.data / ".stillroom").mkdir(exist_ok=True)
    (store.data / ".stillroom/derived").write_text("in the way")
    await store.save("a.png", picture())

    for _ in range(2):
        assert (await store.get("a.png", "width=64")).status_code == 200


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, 503), (signal.SIGSEGV, 415), (signal.SIGXCPU, 415)],
)
async def test_a_decoder_that_dies_takes_one_answer_with_it(
    running: Running, number: signal.Signals, status: int
) -> None:
    async with running(STILLROOM_DERIVED_PROCESSES="1") as store:
        await store.save("warm.png", picture(1))
        await store.save("a.png", picture(2))
        await store.save("b.png", picture(3))
        await store.get("warm.png", "width=64")
        (decoder,) = store.derived.decoder_pids
        os.kill(decoder, signal.SIGSTOP)
        both = [asyncio.ensure_future(store.get(path, "width=64")) for path in ("a.png", "b.png")]
        while not store.derived._decoders._busy:  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)  # until it holds; there is a deadline
        os.kill(decoder, number)
        os.kill(decoder, signal.SIGCONT)

        answers = await asyncio.gather(*both)  # which of them came first is nobody's business
        assert sorted(answer.status_code for answer in answers) == [200, status]
        for answer in answers:
            assert answer.headers.get("retry-after") == ("5" if answer.status_code == 503 else None)
        assert decoder not in store.derived.decoder_pids


async def test_an_original_that_was_refused_is_refused_in_every_size(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save("a.png", picture(size=(300, 300))[:-5000])
    assert (await store.get("a.png", "width=64")).status_code == 415
    with monkeypatch.context() as patched:
        patched.setattr(Decoders, "derive", None)
        for query in ("width=128", "format=jpeg", "quality=10&width=64"):
            assert (await store.get("a.png", query)).status_code == 415

    await store.save("a.png", picture())
    assert (await store.get("a.png", "width=64")).status_code == 200


async def test_an_original_that_killed_its_decoder_is_not_decoded_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(STILLROOM_DERIVED_PROCESSES="1") as store:
        await store.save("warm.png", picture(1))
        await store.save("a.png", picture(2))
        await store.get("warm.png", "width=64")
        (decoder,) = store.derived.decoder_pids
        os.kill(decoder, signal.SIGSTOP)
        sizes = [
            asyncio.ensure_future(store.get("a.png", f"width={width}")) for width in (64, 128, 256)
        ]
        while not store.derived._decoders._busy:  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)  # until it holds; there is a deadline
        os.kill(decoder, signal.SIGXCPU)
        os.kill(decoder, signal.SIGCONT)

        assert {answer.status_code for answer in await asyncio.gather(*sizes)} == {415}
        monkeypatch.setattr(Decoders, "derive", None)
        assert (await store.get("a.png", "width=512")).status_code == 415


async def test_one_original_never_keeps_two_decoders_busy(store: Store) -> None:
    await store.save("warm.png", picture(1))
    await store.save("a.png", picture(2, size=(600, 600)))
    await store.save("b.png", picture(3))
    await store.get("warm.png", "width=64")
    (decoder,) = store.derived.decoder_pids
    os.kill(decoder, signal.SIGSTOP)
    sizes = [
        asyncio.ensure_future(store.get("a.png", f"width={width}")) for width in (64, 128, 256, 512)
    ]
    while not store.derived._decoders._busy:  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)  # until it holds; there is a deadline

    for width in (64, 128, 256, 512):
        assert (await store.get("b.png", f"width={width}")).status_code == 200

    assert not any(answer.done() for answer in sizes)
    os.kill(decoder, signal.SIGCONT)
    assert {answer.status_code for answer in await asyncio.gather(*sizes)} == {200}


async def test_one_original_takes_a_part_of_all_that_may_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MAX_FLIGHTS_OF_ONE", 2)
    await store.save("warm.png", picture(1))
    await store.save("a.png", picture(2, size=(600, 600)))
    await store.save("b.png", picture(3))
    await store.get("warm.png", "width=64")
    (decoder,) = store.derived.decoder_pids
    os.kill(decoder, signal.SIGSTOP)
    two = [asyncio.ensure_future(store.get("a.png", f"width={width}")) for width in (64, 128)]
    while len(store.derived._flights) < 2:  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)  # until it holds; there is a deadline

    third, other = await store.get("a.png", "width=256"), await store.get("b.png", "width=64")

    os.kill(decoder, signal.SIGCONT)
    assert (third.status_code, other.status_code) == (503, 200)
    assert {answer.status_code for answer in await asyncio.gather(*two)} == {200}
    assert (await store.get("a.png", "width=256")).status_code == 200


async def test_a_decoder_that_died_unasked_is_replaced(store: Store) -> None:
    await store.save("a.png", picture())
    await store.get("a.png", "width=64")
    (decoder,) = store.derived.decoder_pids
    os.kill(decoder, signal.SIGKILL)
    os.waitid(os.P_PID, decoder, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  (at once)

    assert (await store.get("a.png", "width=64&quality=10")).status_code == 200
    assert decoder not in store.derived.decoder_pids


# Who may


async def test_a_token_covers_pictures_as_it_covers_images(store: Store) -> None:
    await store.save("mine/a.png", picture())
    await store.save("yours/a.png", picture())
    life = timedelta(hours=1)
    reader = mint_token(JWT_SECRET, expires_in=life, scopes=["storage:read"], folder="mine")
    writer = mint_token(JWT_SECRET, expires_in=life, scopes=["storage:write"])

    for token, path, status in (
        (reader, "mine/a.png", 200),
        (reader, "yours/a.png", 403),
        (writer, "mine/a.png", 403),
        ("none", "mine/a.png", 401),
    ):
        store.client.headers["authorization"] = f"Bearer {token}"
        assert (await store.get(path, "width=64")).status_code == status
        headed = await store.client.head(f"{IMAGES}/{path}?width=64")
        assert headed.status_code == status
    del store.client.headers["authorization"]
    assert (await store.get("mine/a.png", "width=64")).status_code == 401
    assert (await store.get("mine/a.png", "width=none")).status_code == 401


async def test_public_pictures_are_public(running: Running) -> None:
    async with running(STILLROOM_PUBLIC_READ="true") as store:
        await store.save("a.png", picture())
        del store.client.headers["authorization"]

        answer = await store.get("a.png", "width=64")

        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=0, must-revalidate"


async def test_a_signed_url_covers_the_parameters(store: Store) -> None:
    await store.save("a.png", encoded(halves((600, 300))))
    square = {"width": 128, "height": 128, "fit": "cover", "format": "png"}
    sign = "/api/v1/storage/signed-urls"

    async def signed(**fields: object) -> str:
        answer = await store.client.post(sign, json={"path": "a.png", **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"])

    picture_url, image_url = await signed(transform=square), await signed()
    many = await store.client.post(sign, json={"paths": ["a.png"], "transform": {"width": 64}})
    del store.client.headers["authorization"]

    made = await store.client.get(picture_url)
    assert Image.open(io.BytesIO(made.content)).size == (128, 128)
    assert made.headers["referrer-policy"] == "no-referrer"
    assert (await store.client.head(picture_url)).status_code == 200
    (other,) = many.json()["results"]
    made = await store.client.get(other["url"])
    assert Image.open(io.BytesIO(made.content)).size == (64, 32)
    for forged in (
        picture_url.replace("width=128", "width=256"),
        picture_url.replace("width=128&", ""),
        picture_url.replace("fit=cover", "fit=contain"),
        picture_url.replace("fit=cover", "fit=cover&quality=90"),
        picture_url + "&width=64",
        image_url.replace("?", "?width=128&"),
        image_url + "&width=128",
    ):
        assert (await store.client.get(forged)).status_code == 401, forged


@pytest.mark.parametrize(
    "transform", [{"width": 0}, {"width": "64"}, {"fit": "fill"}, {"quality": 101}, {"crop": 1}]
)
async def test_a_transform_that_no_get_would_take_is_not_signed(
    store: Store, transform: dict[str, object]
) -> None:
    answer = await store.client.post(
        "/api/v1/storage/signed-urls", json={"path": "a.png", "transform": transform}
    )

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", "transform"]


# The mark that says that AI made it


def packets(data: bytes) -> int:
    return data.count(b"<x:xmpmeta")


MARKED = {
    "iptc.png": at.with_xmp("PNG", at.iptc()),
    "iptc.webp": at.with_xmp("WEBP", at.iptc("compositeWithTrainedAlgorithmicMedia")),
    "iptc.avif": at.with_xmp("AVIF", at.iptc()),
    "c2pa.jpg": at.with_c2pa("JPEG", at.jumbf(70_000)),
    "both.png": at.with_c2pa("PNG", at.jumbf(), at.with_xmp("PNG", at.iptc())),
}


async def test_a_picture_of_a_marked_image_says_so_too_and_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    pictures = {}
    for name, data in MARKED.items():
        await store.save(name, data)
        for form in ("webp", "jpeg", "png"):
            made = (await store.get(name, f"width=64&format={form}")).content
            pictures[f"{name}.{form}"] = made

            assert find_in(made).ai_mark == "iptc", (name, form)
            assert packets(made) == 1
            assert b"jumb" not in made
            assert b"composite" not in made
    (tmp_path / "made").mkdir()
    for name, found in read_by_exiftool(tmp_path / "made", pictures).items():
        assert found == {"DigitalSourceType": TRAINED, "ImageWidth": 8}, name


async def test_a_picture_of_another_image_has_no_packet(store: Store) -> None:
    given = {"a.png": at.PLAIN["PNG"], "b.jpg": at.with_xmp("JPEG", at.iptc("digitalCapture"))}
    for name, data in given.items():
        await store.save(name, data)
        for form in ("webp", "jpeg", "png"):
            made = (await store.get(name, f"width=64&format={form}")).content
            assert (packets(made), find_in(made).ai_mark) == (0, "none")


async def test_the_pixels_of_a_marked_picture_are_those_of_another(store: Store) -> None:
    await store.save("a.png", at.PLAIN["PNG"])
    await store.save("b.png", with_ai_mark(at.PLAIN["PNG"]))

    for form in ("webp", "jpeg", "png"):
        plain, marked = [
            await store.picture(name, f"width=64&format={form}") for name in ("a.png", "b.png")
        ]
        assert plain.tobytes() == marked.tobytes()


async def test_a_picture_of_an_unmarked_image_has_the_name_that_it_always_had(
    store: Store,
) -> None:
    etag = await store.save("a.png", at.PLAIN["PNG"])
    maker = f"1 {importlib.metadata.version('pillow')}"
    wanted = Derivation(64, 2048, "contain", "webp", 80)
    parts = (maker, "compute/a.png", etag, str(len(at.PLAIN["PNG"])), repr(wanted))
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    answer = await store.get("a.png", "width=64")

    assert answer.headers["etag"] == f'"{name[:32]}"'


async def test_a_marked_picture_is_known_by_its_etag_and_kept(store: Store) -> None:
    await store.save("a.png", MARKED["iptc.png"])

    first = await store.get("a.png", "width=64")
    again = await store.get("a.png", "width=64")
    known = await store.client.get(
        f"{IMAGES}/a.png?width=64", headers={"if-none-match": first.headers["etag"]}
    )

    assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
    assert known.status_code == 304
    head = await store.client.head(f"{IMAGES}/a.png?width=64")
    assert head.headers["content-length"] == str(len(first.content))


async def test_what_hides_its_mark_is_a_picture_all_the_same(store: Store) -> None:
    given = {
        "a.png": at.with_xmp("PNG", "<broken"),
        "b.webp": at.with_xmp("WEBP", at.iptc() + " " * 2 * 1024**2),
        "c.png": at.with_c2pa("PNG", b"no manifest"),
    }
    for name, data in given.items():
        await store.save(name, data)
        assert (await store.get(name, "width=64")).status_code == 200
