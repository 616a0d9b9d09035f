"""What generators ask of the SDK: encodings, floats, names that are new, URLs of providers."""

import asyncio
import contextlib
import io
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from listening import Handler, listening
from running import Server
from stillroom.client import AsyncImageStore, ImageStore, Progress, ServerUnreachable, from_float
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.fetching import fetched
from stillroom.client.retries import Retries
from stillroom.errors import (
    Forbidden,
    InvalidParameter,
    PreconditionFailed,
    StillroomError,
    TooLarge,
    UnsupportedMedia,
)

RED = Image.new("RGB", (8, 8), "red")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(("name", "kind"), [("v1.2/cat", "PNG"), ("1.avif", "AVIF")])
def test_the_first_image_of_a_process_is_encoded(
    server: Server, folder: str, name: str, kind: str
) -> None:
    code = (
        "import sys; from PIL import Image; from stillroom.client import ImageStore\n"
        "ImageStore(*sys.argv[1:3]).save(sys.argv[3], Image.new('RGB', (8, 8)))"
    )
    words = (server.url, server.token(), f"{folder}/{name}")
    subprocess.run([sys.executable, "-c", code, *words], check=True)

    with ImageStore(server.url, server.token()) as store:
        assert opened(store.read(f"{folder}/{name}")).format == kind


@pytest.mark.anyio
async def test_an_image_is_encoded_as_it_is_asked_for(store: AsyncImageStore, folder: str) -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a fox")

    for quality in (5, 95):
        await store.save(f"{folder}/{quality}.jpg", noise, quality=quality, icc_profile=b"profile")
    await store.save(f"{folder}/x.webp", noise, lossless=True, quality=10)
    await store.save(f"{folder}/a.png", RED, pnginfo=texts, quality=80)
    await store.save(f"{folder}/b.png", np.zeros((4, 4, 3), np.uint8), pnginfo={"prompt": "füchse"})

    low, high = [await store.read(f"{folder}/{quality}.jpg") for quality in (5, 95)]
    assert len(low) < len(high) / 2
    assert opened(low).info["icc_profile"] == b"profile"
    assert opened(await store.read(f"{folder}/x.webp")).tobytes() == noise.tobytes()
    assert opened(await store.read(f"{folder}/a.png")).info["parameters"] == "a fox"
    assert opened(await store.read(f"{folder}/b.png")).info["prompt"] == "füchse"
    with pytest.raises(
        UnsupportedMedia, match=r"JPEG images do not support pnginfo: .* ends with \.png"
    ):
        await store.save(f"{folder}/c.jpg", RED, pnginfo=texts)
    misspelt: Any = {"qualty": 90}
    for name in ("d.webp", "d.png"):
        with pytest.raises(UnsupportedMedia, match="unknown option qualty: use exif, icc_profile"):
            await store.save(f"{folder}/{name}", RED, **misspelt)
    with pytest.raises(UnsupportedMedia, match="quality is 900: use 0 to 100"):
        await store.save(f"{folder}/d.webp", RED, quality=900)
    with pytest.raises(UnsupportedMedia, match="JPEG images do not support lossless"):
        await store.save(f"{folder}/c.jpg", RED, lossless=True)
    with pytest.raises(UnsupportedMedia, match=r"image.convert\('RGB'\)"):
        await store.save(f"{folder}/c.jpg", RED.convert("RGBA"), quality=80)
    with pytest.raises(TypeError, match="quality: omit these options"):
        await store.save(f"{folder}/c.jpg", b"bytes", quality=80)


@pytest.mark.anyio
async def test_the_texts_of_generators_are_kept_and_all_else_on_request(
    store: AsyncImageStore, folder: str
) -> None:
    image = RED.copy()
    image.info |= {"parameters": "a fox", "Comment": "by hand", "dpi": (72, 72)}
    exif = Image.Exif()
    exif[0x010E] = "described"
    image.info["exif"] = exif.tobytes()

    await store.save(f"{folder}/plain.png", image)
    await store.save(f"{folder}/own.png", image, pnginfo={"parameters": "a hare"})
    await store.save(f"{folder}/bare.png", image, keep_info=False)
    await store.save(f"{folder}/kept.png", image, keep_info=True)
    del image.info["parameters"], image.info["Comment"]
    await store.save(f"{folder}/kept.jpg", image, keep_info=True)

    assert opened(await store.read(f"{folder}/plain.png")).info == {"parameters": "a fox"}
    assert opened(await store.read(f"{folder}/own.png")).info == {"parameters": "a hare"}
    assert opened(await store.read(f"{folder}/bare.png")).info == {}
    kept = opened(await store.read(f"{folder}/kept.png"))
    assert (kept.info["parameters"], kept.getexif()[0x010E]) == ("a fox", "described")
    assert kept.info["Comment"] == "by hand"
    assert opened(await store.read(f"{folder}/kept.jpg")).getexif()[0x010E] == "described"


A1111 = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 7"
NOVELAI = {"Software": "NovelAI", "Comment": '{"prompt": "a fox", "seed": 7}', "Source": "v4"}


@pytest.mark.anyio
@pytest.mark.parametrize("texts", [{"parameters": A1111}, NOVELAI], ids=["A1111", "NovelAI"])
async def test_each_format_keeps_how_a_loaded_image_was_made(
    store: AsyncImageStore, folder: str, texts: dict[str | tuple[int, int], str]
) -> None:
    image = RED.copy()
    image.info |= texts

    for suffix in ("png", "jpg", "webp", "avif", "gif"):
        await store.save(f"{folder}/a.{suffix}", image)
    await store.save(f"{folder}/bare.jpg", image, keep_info=False)
    image.info["parameters"] = "Steps: 20, Seed: 7, Sampler: " + "long " * 20_000  # for a JPEG
    await store.save(f"{folder}/long.jpg", image)

    for suffix in ("png", "jpg", "webp", "avif"):
        facts = (await store.metadata(f"{folder}/a.{suffix}")).generation
        assert facts is not None
        assert (facts.prompt, facts.seed) == ("a fox", 7)
    for name in ("a.gif", "bare.jpg"):
        assert (await store.metadata(f"{folder}/{name}")).generation is None
    assert opened(await store.read(f"{folder}/long.jpg")).size == RED.size


@pytest.mark.anyio
async def test_facts_that_are_given_stand_in_place_of_the_sdks_own_of_before(
    store: AsyncImageStore, folder: str
) -> None:
    await store.save(f"{folder}/a.png", RED, generation={"prompt": "a fox", "seed": 7})
    again = opened(await store.read(f"{folder}/a.png"))

    await store.save(f"{folder}/b.png", again)
    await store.save(f"{folder}/c.png", again, generation={"prompt": "a hare"})

    first, other = [(await store.metadata(f"{folder}/{name}.png")).generation for name in "bc"]
    assert first is not None
    assert other is not None
    assert (first.prompt, first.seed) == ("a fox", 7)
    assert (other.prompt, other.seed) == ("a hare", None)
    assert (await store.read(f"{folder}/c.png")).count(b"stillroom:generation") == 1


class Tensor:
    """As much of a `torch.Tensor` as is asked for, on a device and with gradients."""

    def __init__(self, array: Any, steps: tuple[str, ...] = ()) -> None:
        self._array, self.steps = array, steps

    def detach(self) -> "Tensor":
        return Tensor(self._array, (*self.steps, "detach"))

    def cpu(self) -> "Tensor":
        return Tensor(self._array, (*self.steps, "cpu"))

    def float(self) -> "Tensor":
        return Tensor(self._array, (*self.steps, "float"))

    def numpy(self) -> Any:
        assert self.steps == ("detach", "cpu", "float")
        return self._array

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_floats_and_tensors_become_arrays_that_can_be_saved(server: Server, folder: str) -> None:
    floats = np.zeros((2, 3, 3), np.float32)
    floats[0, 0] = (-0.04, 0.5, 2)
    whole = [[[0, 128, 255], [0, 0, 0], [0, 0, 0]], [[0, 0, 0]] * 3]
    tensor = Tensor(np.moveaxis(floats, -1, 0)[:, :, :].repeat(2, axis=2))

    assert from_float(floats).tolist() == whole
    assert from_float(floats[None]).tolist() == whole
    assert from_float(tensor).shape == (2, 6, 3)
    assert from_float(np.zeros((1, 5, 6))).shape == (5, 6)
    for wrong, said in (
        (np.zeros((2, 2), np.uint8), "save it without from_float"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.full((2, 2, 3), 254.5, np.float32), "values up to 254.5, but 1 is white: divide it"),
        (np.zeros((2, 4, 4, 3)), "contains 2 images"),
    ):
        with pytest.raises(UnsupportedMedia, match=said):
            from_float(wrong)
    decoded = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 2, 3)
    with pytest.raises(ValueError, match=r"down to -1, .* from_float\(\(x \+ 1\) / 2\)"):
        from_float(decoded)
    assert from_float((decoded + 1) / 2)[0, 0, 0] == 0
    with ImageStore(server.url, server.token()) as store:
        store.save(f"{folder}/a.png", from_float(tensor))
        with pytest.raises(UnsupportedMedia, match="from_float"):
            store.save(f"{folder}/b.png", floats)
        with pytest.raises(TypeError, match="from_float"):
            store.save(f"{folder}/b.png", tensor)  # type: ignore[arg-type]  # a tensor shows no array interface


@pytest.mark.anyio
async def test_a_name_that_is_taken_gets_the_next_number(
    store: AsyncImageStore, folder: str
) -> None:
    names = [(await store.save(f"{folder}/fox.png", RED, unique=True)).path for _ in range(7)]
    await store.delete(names[2])
    once_more = await store.save(f"{folder}/fox.png", RED, unique=True)
    plain = [(await store.save(f"{folder}/.x", RED, unique=True)).path for _ in range(2)]

    assert names == [f"{folder}/fox.png", *(f"{folder}/fox-{n}.png" for n in range(1, 7))]
    assert once_more.path in {names[2], f"{folder}/fox-7.png"}
    assert plain == [f"{folder}/.x", f"{folder}/.x-1"]
    with pytest.raises(TypeError, match="cannot be combined"):
        await store.save(f"{folder}/fox.png", RED, unique=True, if_none_match="*")


@pytest.mark.anyio
async def test_an_error_of_the_callers_function_chooses_no_other_name(
    store: AsyncImageStore, folder: str
) -> None:
    def refuse(_: Progress) -> None:
        raise PreconditionFailed("said the caller")

    with pytest.raises(PreconditionFailed, match="said the caller"):
        await store.save(f"{folder}/fox.png", RED, unique=True, progress=refuse)

    assert not await store.exists(f"{folder}/fox-1.png")


def test_names_that_are_new_race_without_losing_an_image(server: Server, folder: str) -> None:
    saved: list[str] = []
    with ImageStore(server.url, server.token()) as store:

        def save() -> None:
            saved.extend(
                store.save(f"{folder}/{'fox.png'}", RED, unique=True).path for _ in range(5)
            )

        threads = [Thread(target=save) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(saved)) == len(saved) == 20
        assert sorted(store.iter(f"{folder}/")) == sorted(saved)


@pytest.mark.anyio
async def test_smaller_pictures_are_read_and_signed(
    store: AsyncImageStore, server: Server, folder: str
) -> None:
    paths = [f"{folder}/{number}.png" for number in range(2)]
    for path in paths:
        await store.save(path, Image.new("RGB", (300, 200), "teal"))

    small = opened(await store.read(paths[0], width=64, format="png"))
    urls = await store.signed_urls(paths, width=128)
    one = await store.signed_url(paths[0])

    assert (small.size, small.format) == ((64, 43), "PNG")
    async with httpx.AsyncClient() as client:
        sizes = [opened((await client.get(url)).content).size for url in [*urls, one]]
    assert sizes == [(128, 85), (128, 85), (300, 200)]
    async with AsyncImageStore(server.url, server.token("--prefix", f"{folder}/x")) as other:
        with pytest.raises(Forbidden, match=r"0\.png"):
            await other.signed_urls(paths)


@contextmanager
def provider(answers: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """A server that gives images without a token; its URL."""

    class Answering(Handler):
        def get(self) -> None:
            assert "Authorization" not in self.headers
            status, fields, body = answers[self.path.partition("?")[0]]
            self.answer(status, body, {"Content-Length": str(len(body)), **fields})

    with listening(Answering) as url:
        yield url


@pytest.mark.anyio
async def test_the_url_of_a_provider_is_saved_within_bounds(
    store: AsyncImageStore, folder: str
) -> None:
    png = io.BytesIO()
    RED.save(png, "PNG")
    data = png.getvalue()
    answers = {
        "/a.png": (200, {"Content-Type": "image/png"}, data),
        "/moved": (302, {"Location": "/a.png?signature=secret"}, b""),
        "/round": (302, {"Location": "/round"}, b""),
        "/page": (200, {"Content-Type": "text/html; charset=utf-8"}, b"<p>log in"),
        "/gone": (410, {}, b""),
        "/packed": (200, {"Content-Encoding": "gzip"}, data),
        "/short": (200, {"Content-Length": "100000"}, data),
    }
    with provider(answers) as url:
        saved = await store.save_url(f"{folder}/a.png", f"{url}/moved", allow_private=True)
        with pytest.raises(PreconditionFailed):
            await store.save_url(
                f"{folder}/a.png", f"{url}/a.png", allow_private=True, if_none_match="*"
            )
        wrong: list[tuple[str, type[StillroomError], dict[str, Any]]] = [
            ("/a.png", InvalidParameter, {"allow_private": False}),
            ("/a.png", TooLarge, {"max_bytes": 10}),
            ("/round", UnexpectedAnswer, {}),
            ("/page", UnsupportedMedia, {}),
            ("/gone?signature=secret", UnexpectedAnswer, {}),
            ("/packed", UnexpectedAnswer, {}),
            ("/short", ServerUnreachable, {}),
        ]
        for target, kind, how in wrong:
            with pytest.raises(kind) as raised:
                await store.save_url(f"{folder}/b", url + target, **{"allow_private": True, **how})
            assert "secret" not in str(raised.value)

    assert await store.read(saved.path) == data
    assert not await store.exists(f"{folder}/b")


@contextmanager
def dripping(start: bytes, drop: bytes) -> Iterator[str]:
    """A server that sends this beginning, and then a piece again and again for ten seconds."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(start)
            for _ in range(200):
                connection.sendall(drop)
                time.sleep(0.05)  # as a slow server does
            connection.sendall(b"\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nx: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),  # of no length: it ends with the connection
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["head", "body", "hints"],
)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up_in_time(
    start: bytes, drop: bytes
) -> None:
    retries = Retries(deadline_s=0.5, timeout_s=30)

    with (
        dripping(start, drop) as url,
        pytest.raises(ServerUnreachable, match="before the deadline"),
        fetched(url, retries, max_bytes=10_000, allow_private=True),
    ):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0.0.0.0/",
        "http://[::127.0.0.1]/", "http://[::ffff:0:127.0.0.1]/", "http://[fec0::1]/",
        "http://[64:ff9b:1::a00:1]/", "http://[64:ff9b::a00:1]/", "http://[2002:a00:1::]/",
        "http://2130706433/", "http://0x7f.1/",
        "file:///etc/passwd", "ftp://example.com/x", "http://user:pass@example.com/", "no url",
        "http://", "http://[::1", f"http://{'a' * 70}.example/",
    ],
)  # fmt: skip
def test_a_url_leads_to_nothing_in_the_network_of_the_process(url: str) -> None:
    retries = Retries(deadline_s=5, timeout_s=5)

    with (
        pytest.raises(InvalidParameter),
        fetched(url, retries, max_bytes=10, allow_private=False),
    ):
        pass


def test_the_checked_address_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answer(_: object, request: httpx.Request) -> httpx.Response:
        asked.append(
            f"{request.url} {request.headers['host']} {request.extensions['sni_hostname']}"
        )
        return httpx.Response(302, headers={"location": "http://images.example/"})

    def resolved(host: str, port: int, **_: object) -> list[Any]:
        assert host == "images.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    retries = Retries(deadline_s=5, timeout_s=5)

    with (
        pytest.raises(InvalidParameter, match="not https"),
        fetched("https://images.example/a?b", retries, max_bytes=10, allow_private=False),
    ):
        pass

    assert asked == ["https://93.184.216.34/a?b images.example images.example"]


def test_a_store_shows_its_url_and_no_token(server: Server) -> None:
    with ImageStore(f"{server.url}/api/v1", "some.token.here") as store:
        assert repr(store) == f"ImageStore('{server.url}')"
    assert repr(AsyncImageStore(server.url)) == f"AsyncImageStore('{server.url}')"


def test_an_async_store_in_a_second_event_loop_says_so(server: Server) -> None:
    store = AsyncImageStore(server.url, server.token())

    async def ask() -> bool:
        return await store.exists("none")

    async def ask_and_close() -> None:
        await ask()
        await store.close()
        await asyncio.sleep(0)  # the transport is closed with the next turn of the loop

    other = asyncio.new_event_loop()
    first = asyncio.new_event_loop()
    try:
        assert first.run_until_complete(ask()) is False
        with pytest.raises(RuntimeError, match="another event loop"):
            other.run_until_complete(ask())
        first.run_until_complete(ask_and_close())
        other.run_until_complete(ask_and_close())
    finally:
        first.close()
        other.close()


def test_a_str_where_a_path_is_meant_gets_a_sentence(server: Server, tmp_path: Path) -> None:
    with ImageStore(server.url, server.token()) as store:
        for act in (
            lambda: store.save("a.png", "cat.png"),  # type: ignore[arg-type]  # what is tried
            lambda: store.download("a.png", str(tmp_path)),  # type: ignore[arg-type]  # the same
            lambda: store.download_archive("a/", str(tmp_path)),  # type: ignore[arg-type]  # the same
        ):
            with pytest.raises(TypeError, match=r"pathlib\.Path"):
                act()
