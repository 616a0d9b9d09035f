"""Answers that a server keeps follow every change of their image."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from acceptance.raw_requests import LARGE, PNG
from running import IMAGES, Server
from waiting import until


def test_what_another_process_saves_or_deletes_is_seen_at_once(
    both_paths: tuple[Server, Server],
) -> None:
    short, other = both_paths
    with short.client() as reader, other.client() as writer:
        for turn in range(20):
            data = PNG + bytes([turn])
            writer.post(f"{IMAGES}/turns.png", files={"file": data})
            assert reader.get(f"{IMAGES}/turns.png").content == data
            if turn % 3 == 0:
                writer.delete(f"{IMAGES}/turns.png")
                assert reader.get(f"{IMAGES}/turns.png").status_code == 404


def settled(*files: Path) -> None:
    """Wait until nothing has changed for so long that a server may keep answers."""
    while time.time() < max(file.stat().st_ctime for file in files) + 2.1:
        time.sleep(0.05)  # until it holds; there is a deadline


SIZES = (8, 4_000, 65_536, 65_537, 300_000)


@dataclass
class Kept:
    """An image whose answers a server keeps."""

    path: str
    file: Path
    content: bytes

    @property
    def spare(self) -> Path:
        """Another folder with an image of this name and size, as old as this one."""
        return self.file.parent.with_name(f"{self.file.parent.name}-spare")


@pytest.fixture(scope="module")
def kept(both_paths: tuple[Server, Server]) -> dict[str, list[Kept]]:
    """Images of several sizes for each of `CHANGES`."""
    short, _ = both_paths
    images = {way: [_saved(short, way, size) for size in SIZES] for way in CHANGES}
    everything = [image for group in images.values() for image in group]
    settled(*(image.file for image in everything), *(image.spare / "a.bin" for image in everything))
    return images


def _saved(server: Server, way: str, size: int) -> Kept:
    path, content = f"kept/{way}/{size}/a.bin", os.urandom(size)
    with server.client() as client:
        client.post(f"{IMAGES}/{path}", files={"file": content}).raise_for_status()
    kept = Kept(path, server.data / "compute" / path, content)
    kept.spare.mkdir()
    (kept.spare / "a.bin").write_bytes(os.urandom(size))
    return kept


def edited(image: Kept, new: bytes, _: httpx.Client) -> bytes:
    with image.file.open("r+b") as opened:
        opened.write(new)
    os.utime(image.file)
    return new


def replaced(image: Kept, new: bytes, _: httpx.Client) -> bytes:
    other, time_ns = image.file.with_name("other"), image.file.stat().st_mtime_ns
    other.write_bytes(new)
    os.utime(other, ns=(time_ns, time_ns))
    other.replace(image.file)
    return new


def saved(image: Kept, new: bytes, other: httpx.Client) -> bytes:
    other.post(f"{IMAGES}/{image.path}", files={"file": new}).raise_for_status()
    return new


def deleted(image: Kept, _: bytes, other: httpx.Client) -> None:
    other.delete(f"{IMAGES}/{image.path}").raise_for_status()


def linked(image: Kept, _: bytes, __: httpx.Client) -> None:
    image.file.symlink_to(image.file.rename(image.file.with_name("aside")))


def swapped(image: Kept, _: bytes, __: httpx.Client) -> bytes:
    image.file.parent.rename(image.file.parent.with_name(f"{image.file.parent.name}-old"))
    image.spare.rename(image.file.parent)
    return image.file.read_bytes()


CHANGES = {
    change.__name__: change for change in (swapped, edited, replaced, saved, deleted, linked)
}


@pytest.mark.parametrize("way", CHANGES)
def test_an_answer_that_is_kept_follows_every_change(
    both_paths: tuple[Server, Server], kept: dict[str, list[Kept]], way: str
) -> None:
    short, long = both_paths
    with short.client() as reader, long.client() as other:
        for image in kept[way]:
            url = f"{IMAGES}/{image.path}"
            for _ in range(4):
                assert reader.get(url).content == image.content
            etag = reader.head(url).headers["etag"]

            new = CHANGES[way](image, os.urandom(len(image.content)), other)

            for _ in range(4):
                answer, head = reader.get(url), reader.head(url)
                assert answer.status_code == head.status_code == (404 if new is None else 200)
                if new is not None:
                    assert answer.content == new
                    assert answer.headers["etag"] == head.headers["etag"] != etag


def test_an_image_that_comes_is_seen_by_who_was_told_that_it_is_missing(
    both_paths: tuple[Server, Server],
) -> None:
    short, _ = both_paths
    file = short.data / "compute/kept/later.png"
    file.parent.mkdir(exist_ok=True)
    settled(file.parent)
    with short.client() as reader:
        for turn in range(3):
            for _ in range(3):
                assert reader.get(f"{IMAGES}/kept/later.png").status_code == 404
            file.write_bytes(PNG + bytes([turn]))
            assert reader.get(f"{IMAGES}/kept/later.png").content == PNG + bytes([turn])
            file.unlink()


def test_a_deleted_image_gives_its_room_back(both_paths: tuple[Server, Server]) -> None:
    short, _ = both_paths
    file = short.data / "compute/room.bin"
    with short.client() as client:
        client.post(f"{IMAGES}/room.bin", files={"file": LARGE}).raise_for_status()
        settled(file)
        for _ in range(3):
            client.get(f"{IMAGES}/room.bin").raise_for_status()
        client.delete(f"{IMAGES}/room.bin").raise_for_status()

        def is_closed_after_another_read() -> bool:
            client.get(f"{IMAGES}/a.png")
            return not is_open(short, "room.bin")

        until(is_closed_after_another_read)


def is_open(server: Server, name: str) -> bool:
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if name in os.readlink(descriptor):
                return True
    return False
