"""What `stillroom migrate` says, and how it ends."""

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from acceptance.migrating import migrate, settings_file
from acceptance.test_verify import fill, flip
from running import STILLROOM
from stillroom.features.database.settings import DatabaseSettings
from stillroom.settings import AllSettings
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.whole]


def test_damage_is_told_and_ends_with_one(tmp_path: Path) -> None:
    fill(tmp_path / "source", {"a.png": b"one" * 100, "b.png": b"two" * 100})
    flip(tmp_path / "source/compute/b.png", 7)
    (tmp_path / "target").mkdir()

    ran = migrate("--from", tmp_path / "source", "--to", tmp_path / "target")
    fill(tmp_path / "target", {"b.png": b"other"})
    differs = migrate("--from", tmp_path / "source", "--to", tmp_path / "target", "--json")

    assert ran.status == 1
    assert "failed  compute/b.png: the received bytes have the SHA-256" in ran.out
    assert differs.status == 1
    (problem,) = differs.json["problems"]
    assert (problem["outcome"], problem["name"]) == ("differs", "compute/b.png")


def test_what_was_deleted_in_the_source_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "source", {"a.png": b"one", "b.png": b"two"})
    (tmp_path / "target").mkdir()
    words = ("--from", tmp_path / "source", "--to", tmp_path / "target", "--extra")
    assert "extra" not in migrate(*words).out
    (tmp_path / "source/compute/a.png").unlink()

    ran = migrate(*words)

    assert ran.status == 0
    assert "extra  compute/a.png: the source has no such image\n1 image: 1 same, 1 extra" in ran.out
    assert (tmp_path / "target/compute/a.png").read_bytes() == b"one"


def test_a_part_of_the_images_moves_alone(tmp_path: Path) -> None:
    fill(tmp_path / "source", {"a/1.png": b"one", "b/2.png": b"two"})
    (tmp_path / "target").mkdir()

    ran = migrate(
        "--from", tmp_path / "source", "--to", tmp_path / "target", "--prefix", "a/", "--json"
    )

    assert (ran.status, ran.json["images"], ran.json["rows"]) == (0, 1, None)
    assert not (tmp_path / "target/compute/b").exists()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_ends_with_three_and_goes_on(tmp_path: Path, stop: signal.Signals) -> None:
    fill(tmp_path / "source", {f"{n:03}.bin": bytes([n]) * 20_000 for n in range(200)})
    target = tmp_path / "target"
    target.mkdir()
    words = [STILLROOM, "migrate", "--json", f"--from={tmp_path / 'source'}", f"--to={target}"]
    process = subprocess.Popen([*words, "--rate", "250kB/s"], stdout=subprocess.PIPE)
    folder = target / "compute"
    until(
        lambda: folder.exists() and len(list(folder.iterdir())) >= 10,
        by=process,
    )
    process.send_signal(stop)
    printed, _ = process.communicate(timeout=60)
    rest = migrate("--from", tmp_path / "source", "--to", target, "--json")

    assert process.returncode == 3
    assert json.loads(printed)["finished"] is False
    assert (rest.status, rest.json["images"]) == (0, 200)
    assert rest.json["counts"]["same"] >= 10


def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    fill(tmp_path / "source", {f"{number}.bin": bytes(50_000) for number in range(20)})
    (tmp_path / "target").mkdir()
    ours, theirs = pty.openpty()
    source, target = tmp_path / "source", tmp_path / "target"
    words = [STILLROOM, "migrate", f"--from={source}", f"--to={target}"]
    process = subprocess.Popen([*words, "--rate", "1MB/s"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # the other side is closed: on a terminal that is EIO
    printed, _ = process.communicate(timeout=60)
    os.close(ours)

    assert process.returncode == 0
    assert b"20 images: 20 copied, 1.0 MB" in printed
    assert "█".encode() in shown
    assert b"B/s" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "pass --from, --to or both"),
        (("--from", "{data}", "--to", "{data}"), "are the same store"),
        (("--from", "{empty}", "--to", "{data}"), "there is no store in"),
        (("--from", "{data}", "--to", "{half}"), "R2_SECRET_ACCESS_KEY and R2_BUCKET_NAME must"),
        (("--from", "{data}", "--to", "/nowhere"), "does not exist"),
        (("--from", "{data}", "--to", "{odd}"), "odd.env"),
        (("--from", "{data}", "--to", "{none}"), "has no line that sets"),
        (("--to", "{data}", "--rate", "fast"), "is not a rate"),
    ],
)
def test_what_cannot_run_ends_with_two_and_one_sentence(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    fill(tmp_path / "data", {"a.png": b"one"})
    (tmp_path / "empty").mkdir()
    half = {"R2_ENDPOINT_URL": "https://r2.example.com", "R2_ACCESS_KEY_ID": "key"}
    names = {
        "data": tmp_path / "data",
        "empty": tmp_path / "empty",
        "half": settings_file(tmp_path / "half.env", **half),
        "odd": settings_file(tmp_path / "odd.env", STILLROOM_PORT="http"),
        "none": settings_file(tmp_path / "none.env", PATH="/bin"),
    }

    ran = migrate(*(word.format(**names) for word in words))

    assert ran.status == 2
    assert said in ran.err
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_bucket_out_of_reach_ends_with_five(tmp_path: Path) -> None:
    fill(tmp_path / "data", {"a.png": b"one"})
    gone = settings_file(
        tmp_path / "gone.env",
        R2_ENDPOINT_URL="http://127.0.0.1:9",
        R2_ACCESS_KEY_ID="key",
        R2_SECRET_ACCESS_KEY="topsecret",
        R2_BUCKET_NAME="images",
    )

    ran = migrate("--from", tmp_path / "data", "--to", gone)

    assert ran.status == 5
    assert "the bucket is out of reach" in ran.err
    assert "topsecret" not in ran.out + ran.err


def test_a_settings_file_is_believed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.env"
    file.write_text(
        "# ours\nexport R2_BUCKET_NAME='images'\nR2_ENDPOINT_URL=https://r2.example.com\n"
        "R2_ACCESS_KEY_ID=k\nR2_SECRET_ACCESS_KEY=a$b${HOME}c#d\n"
        "STILLROOM_CORS_ORIGINS=https://a.example.com,https://b.example.com\n"
        "STILLROOM_DATABASE_URL=\nOTHER=thing\n"
    )
    monkeypatch.setenv("STILLROOM_DATABASE_URL", "postgresql://a@b/c")
    monkeypatch.setenv("STILLROOM_PORT", "9")

    settings = AllSettings.read_file(file)

    assert settings.r2_bucket_name == "images"
    assert settings.r2_secret_access_key.get_secret_value() == "a$b${HOME}c#d"
    assert settings.cors_origins == ["https://a.example.com", "https://b.example.com"]
    assert settings.section(DatabaseSettings).database_url is None
    assert settings.port == 8000
    monkeypatch.setenv("R2_ENDPOINT_URL", "https://r2.example.com")
    assert AllSettings.of_values(data_dir=tmp_path).r2_endpoint_url == ""
