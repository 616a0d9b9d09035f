"""What a data directory is when the store starts in it."""

import os
import subprocess
from pathlib import Path

import pytest

from stillroom.errors import ConfigurationError
from stillroom.store.disk.data_directory import DataDirectory


async def test_what_a_crash_left_in_staging_goes_at_the_next_start_but_not_under_running_ones(
    tmp_path: Path,
) -> None:
    running = DataDirectory(tmp_path)
    left = tmp_path / ".stillroom/staging/123-left"
    left.write_bytes(b"x")

    second = DataDirectory(tmp_path)
    assert left.exists()

    running.close()
    second.close()
    DataDirectory(tmp_path).close()
    assert not left.exists()


def test_a_data_directory_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="STILLROOM_DATA_DIR"):
        DataDirectory(tmp_path / "file")


def test_a_linked_private_folder_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.stillroom").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        DataDirectory(tmp_path / "data")
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.root
@pytest.mark.parametrize("folder", ["compute", "media", ".stillroom"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_filesystem_mounted_in_the_data_directory_stops_the_start(
    tmp_path: Path, folder: str, kind: str
) -> None:
    place = tmp_path / "data" / folder
    place.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    mount = {"tmpfs": ["-t", "tmpfs", "none"], "bind": ["--bind", str(tmp_path / "other")]}[kind]
    subprocess.run(["mount", *mount, str(place)], check=True)
    try:
        with pytest.raises(ConfigurationError, match="different mounts"):
            DataDirectory(tmp_path / "data")
        assert not list((tmp_path / "data").glob("*/*.png"))
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)

    DataDirectory(tmp_path / "data").close()
