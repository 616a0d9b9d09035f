"""The wall behind the lexical check: nothing opens a file outside of its folder."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillroom.store.disk.openat2 import Opener, choose_opener, open_by_kernel, open_by_walk


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    inside = tmp_path / "inside"
    (inside / "a/b").mkdir(parents=True)
    (inside / "a/b/image").write_text("image")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (inside / "link-out").symlink_to(tmp_path / "outside")
    (inside / "link-in").symlink_to("a")
    (inside / "a/link-to-file").symlink_to(tmp_path / "outside/secret")
    fd = os.open(inside, os.O_RDONLY)
    yield fd
    os.close(fd)


openers = pytest.mark.parametrize("opener", [open_by_kernel, open_by_walk])


@openers
def test_a_plain_path_opens(opener: Opener, folder: int) -> None:
    fd = opener(folder, "a/b/image", os.O_RDONLY)
    assert os.read(fd, 10) == b"image"
    assert not os.get_inheritable(fd)
    os.close(fd)


@openers
@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("link-out/secret", errno.ELOOP),
        ("link-in/b/image", errno.ELOOP),
        ("a/link-to-file", errno.ELOOP),
        ("../outside/secret", errno.EXDEV),
        ("a/../../outside/secret", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
        ("missing/image", errno.ENOENT),
        ("a/b/missing", errno.ENOENT),
        ("a/b/image/below", errno.ENOTDIR),
    ],
)
def test_a_link_or_an_escape_does_not(opener: Opener, folder: int, path: str, number: int) -> None:
    before = os.listdir("/proc/self/fd")

    with pytest.raises(OSError) as found:  # noqa: PT011  (the number is what is checked)
        opener(folder, path, os.O_RDONLY)

    assert found.value.errno == number
    assert os.listdir("/proc/self/fd") == before


def test_the_kernel_is_chosen_where_it_can(folder: int) -> None:
    assert choose_opener(folder) is open_by_kernel
