"""Codes of sign-in links: each works once, for minutes."""

import concurrent.futures
import os
from pathlib import Path

import pytest

from stillroom.errors import SignInCodeSpent
from stillroom.features.gallery.sign_in_codes import CODE_LIFE, SignInCodes


def age(folder: Path, *, by_s: float) -> None:
    for file in folder.iterdir():
        made = file.stat().st_mtime
        os.utime(file, (made - by_s, made - by_s))


def test_a_code_is_used_once(tmp_path: Path) -> None:
    codes = SignInCodes(tmp_path / "sign-in")
    code = codes.make()

    codes.use(code)

    with pytest.raises(SignInCodeSpent):
        codes.use(code)
    assert list((tmp_path / "sign-in").iterdir()) == []


def test_of_many_that_use_it_at_once_one_succeeds(tmp_path: Path) -> None:
    code = SignInCodes(tmp_path).make()

    def take(_: int) -> bool:
        try:
            SignInCodes(tmp_path).use(code)
        except SignInCodeSpent:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, range(64))) == 1


def test_what_lies_on_the_disk_is_no_code(tmp_path: Path) -> None:
    folder = tmp_path / "sign-in"
    code = SignInCodes(folder).make()
    (file,) = folder.iterdir()

    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert (code in file.name, file.read_bytes()) == (False, b"")
    with pytest.raises(SignInCodeSpent):
        SignInCodes(folder).use(file.name)
    SignInCodes(folder).use(code)


@pytest.mark.parametrize("by_s", [CODE_LIFE.total_seconds(), -CODE_LIFE.total_seconds() - 60])
def test_a_code_that_is_too_old_or_of_the_future_is_refused(tmp_path: Path, by_s: float) -> None:
    codes = SignInCodes(tmp_path)
    code = codes.make()
    age(tmp_path, by_s=by_s)

    with pytest.raises(SignInCodeSpent):
        codes.use(code)
    assert list(tmp_path.iterdir()) == []


def test_old_codes_go_when_one_is_made(tmp_path: Path) -> None:
    codes = SignInCodes(tmp_path)
    codes.make()
    age(tmp_path, by_s=CODE_LIFE.total_seconds())
    young = codes.make()

    codes.make()

    assert len(list(tmp_path.iterdir())) == 2
    codes.use(young)


@pytest.mark.parametrize(
    "code", ["", ".", "..", "../secret", "/etc/passwd", "\x00", "\ud800", "é" * 9]
)
def test_what_is_no_code_names_no_file(tmp_path: Path, code: str) -> None:
    (tmp_path / "secret").touch()
    folder = tmp_path / "sign-in"
    SignInCodes(folder).make()

    with pytest.raises(SignInCodeSpent):
        SignInCodes(folder).use(code)
    assert (tmp_path / "secret").exists()
    assert len(list(folder.iterdir())) == 1
