"""The secret that is made at the first start."""

import concurrent.futures
import os
from pathlib import Path

import pytest

from stillroom.errors import ConfigurationError
from stillroom.store.auth.secret import load_or_make_secret


def test_the_first_start_makes_it_and_the_next_ones_read_it(tmp_path: Path) -> None:
    file = tmp_path / "data" / "secret"

    secret, made = load_or_make_secret(file)

    assert made
    assert len(secret) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_or_make_secret(file) == (secret, False)
    assert os.listdir(file.parent) == ["secret"]


def test_two_starters_end_up_with_one_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: load_or_make_secret(file), range(64)))

    assert len({secret for secret, _ in found}) == 1
    assert os.listdir(tmp_path) == ["secret"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620], ids=oct)
def test_a_secret_that_others_can_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secret"
    load_or_make_secret(file)
    file.chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_or_make_secret(file)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 43)
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError):
        load_or_make_secret(tmp_path / "secret")
