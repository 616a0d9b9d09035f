"""What the SDK takes for an image: files, streams, Pillow's and NumPy's; and what it refuses."""

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.conftest import listed
from command_line import PNG
from stillroom import errors
from stillroom.client import AsyncImageStore, Source
from stillroom.client.sources import opened
from stillroom.paths import ImagePath


async def test_every_kind_of_source_is_saved_whole(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    data = os.urandom(700_000)  # more than one chunk
    file = tmp_path / "a.bin"
    file.write_bytes(data)
    behind = io.BytesIO(b"skipped" + data)
    behind.seek(7)
    reader, writer = os.pipe()

    def fill() -> None:
        with open(writer, "wb") as pipe:
            pipe.write(data)

    threading.Thread(target=fill).start()
    with file.open("rb") as read, os.fdopen(reader, "rb") as pipe:
        sources: list[Source] = [
            data, bytearray(data), memoryview(data), file, read, behind, pipe
        ]  # fmt: skip
        for number, source in enumerate(sources):
            path = f"{folder}/{number}.bin"
            await store.save(path, source)
            assert await store.read(path) == data, source


def test_a_file_that_becomes_shorter_is_not_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    data = os.urandom(1024**2)
    file.write_bytes(data)
    with opened(file, ImagePath.parse("a.bin")) as upload:
        assert b"".join(upload.chunks()) == data
        os.truncate(file, len(data) // 2)
        with pytest.raises(errors.DigestMismatch, match="shorter"):
            list(upload.chunks())


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), ("", "PNG")]
)
async def test_an_image_or_array_is_encoded_as_its_name_says(
    store: AsyncImageStore, folder: str, suffix: str, kind: str
) -> None:
    picture = Image.new("RGB", (20, 10), (200, 30, 40))
    for name, source in (("pillow", picture), ("numpy", np.asarray(picture))):
        path = f"{folder}/{name}{suffix}"
        await store.save(path, source)
        with await store.open(path) as file, Image.open(file) as back:
            assert (back.format, back.size) == (kind, (20, 10))
            pixel = back.convert("RGB").getpixel((5, 5))
            assert isinstance(pixel, tuple)
            assert all(abs(a - b) < 6 for a, b in zip(pixel, (200, 30, 40), strict=True))


async def test_a_stream_that_was_not_rewound_is_refused_and_the_old_image_stays(
    store: AsyncImageStore, folder: str
) -> None:
    path = f"{folder}/a.png"
    stream = io.BytesIO()
    stream.write(PNG)
    await store.save(path, PNG)

    with pytest.raises(errors.EmptyFile, match=r"a\.png.*rewind it first"):
        await store.save(path, stream)

    assert await store.read(path) == PNG


async def test_what_is_no_image_is_refused_before_anything_is_sent(
    store: AsyncImageStore, folder: str
) -> None:
    odd: Any
    for odd, expected in (
        (np.zeros((4, 4, 3)), errors.UnsupportedMedia),
        (np.zeros((4, 4, 7), np.uint8), errors.UnsupportedMedia),
        ("cat.png", TypeError),
        (io.StringIO("text"), TypeError),
        (7, TypeError),
    ):
        with pytest.raises(expected):
            await store.save(f"{folder}/a.png", odd)
    with pytest.raises(errors.UnsupportedMedia, match=r"image\.convert\('RGB'\)"):
        await store.save(f"{folder}/a.jpg", Image.new("RGBA", (1, 1)))
    with pytest.raises(errors.UnsupportedMedia):
        await store.save(f"{folder}/a.txt", Image.new("RGB", (1, 1)))
    for path in ("../a", "/a", "a//b", "a\n", ""):
        with pytest.raises(errors.InvalidPath):
            await store.save(path, PNG)
    assert await listed(store.iter(f"{folder}/")) == []


class Tensor:
    """Looks like one of torch's."""

    def __array__(self) -> Any:
        raise AssertionError


async def test_arguments_of_the_wrong_kind_are_refused_with_a_sentence(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    odd: Any = Tensor()
    with pytest.raises(TypeError, match=r"Tensor: .* save stillroom\.client\.from_float"):
        await store.save(f"{folder}/a.png", odd)
    odd = tmp_path / "a.png"
    for call in (store.save(odd, PNG), store.exists(odd), store.delete(odd)):
        with pytest.raises(TypeError, match=r"be a str such as 'cats/1.png', not a PosixPath"):
            await call
    odd = str(tmp_path / "a.png")
    for download in (
        store.download(f"{folder}/a.png", odd),
        store.download_unless_same(f"{folder}/a.png", odd),
    ):
        with pytest.raises(TypeError, match=r"pathlib\.Path, such as Path\('out\.png'\)"):
            await download


async def test_a_wrong_path_is_named_in_its_error(store: AsyncImageStore) -> None:
    with pytest.raises(errors.InvalidPath, match=r"'/abs\.png': "):
        await store.save("/abs.png", PNG)
