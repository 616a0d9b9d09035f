"""`stillroom verify` on a disk: what it finds, what it leaves alone, and how it ends."""

import asyncio
import hashlib
import json
import os
import pty
import random
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from command_line import Ran, ran
from contract.images import source_of
from crash.traffic import Traffic
from running import IMAGES, STILLROOM, Verified, peak_bytes_of, running
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.values import SaveRules
from waiting import until

pytestmark = pytest.mark.slow

MIB = 1024**2
RULES = SaveRules(max_bytes=64 * MIB)


def fill(data: Path, images: dict[str, bytes]) -> None:
    """Save images as the server does, but for the syncs."""

    async def save_all() -> None:
        storage = open_storage(DiskConfig(data, min_free_bytes=0, durable=False), RULES)
        for path, content in images.items():
            await storage.save(StorageKey.of_image(ImagePath.parse(path)), source_of(content))
        await storage.close()

    asyncio.run(save_all())


def verify(data: Path, *flags: str, **variables: str) -> Verified:
    words = ("verify", "--json", "--data-dir", str(data), *flags)
    done = ran(data.parent, words, variables, on_main_thread=True)
    return Verified(done.code, json.loads(done.out or "{}"), done.err)


def command(data: Path, *words: str) -> Ran:
    return ran(data.parent, (*words, "--data-dir", str(data)), {}, on_main_thread=True)


def found(client: httpx.Client) -> list[str]:
    answer = client.get("/api/v1/storage/search", params={"prefix": "in/"})
    return sorted(image["path"] for image in answer.json()["items"])


def flip(file: Path, at: int, mask: int = 1) -> None:
    """Change one byte as a failing disk does: the file's time stays."""
    status = file.stat()
    with file.open("r+b") as opened:
        opened.seek(at)
        (byte,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes((byte ^ mask,)))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_thousand_flipped_bytes_are_a_thousand_findings(tmp_path: Path) -> None:
    dice = random.Random(1)
    sizes = [1, 2, 4095, 4096, 4097, 3 * MIB, *(dice.randint(1, 9000) for _ in range(1094))]
    images = {
        f"{number % 7}/{number:04}.bin": dice.randbytes(size) for number, size in enumerate(sizes)
    }
    fill(tmp_path, images)
    flipped = dice.sample(sorted(images), 1000)
    for path in flipped:
        at = dice.randrange(len(images[path]))
        flip(tmp_path / "compute" / path, at, mask=1 << dice.randrange(8))

    verified = verify(tmp_path)

    assert verified.status == 1
    assert sorted(verified.names("damaged")) == [f"compute/{path}" for path in sorted(flipped)]
    assert verified.report["counts"] == {"damaged": 1000}
    assert verified.report["images"] == len(images)
    again = sum(len(images[path]) for path in flipped)
    assert verified.report["bytes"] == sum(sizes) + again, "what looks bad is read twice"


def test_the_media_library_is_looked_at_too_also_by_one_that_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": b"one", "b.png": b"two"})
    (tmp_path / "media/1").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "compute" / name).rename(tmp_path / "media/1" / name)
    fill(tmp_path, {"c.png": b"three"})
    flip(tmp_path / "media/1/b.png", 1)
    (tmp_path / "media/link").symlink_to("1")

    whole = verify(tmp_path)
    (tmp_path / ".stillroom/verify.json").write_text(
        json.dumps(
            {
                "subject": f"disk {tmp_path}, .stillroom/trash/",
                "after": "media/1/a.png",
                "images": 2,
                "counts": {},
                "findings": [],
            }
        )
    )
    rest = verify(tmp_path)

    for verified in (whole, rest):
        assert verified.names("damaged") == ["media/1/b.png"]
        assert verified.names("stray") == ["media/link"]
        assert verified.report["images"] == 3
    assert "resuming after" in rest.log
    assert verify(tmp_path, "--prefix", "c").status == 0


def test_a_sound_store_is_all_right_and_a_file_copied_in_is_only_unknown(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": b"one", "empty.png": b"", "b/c.png": b"two"})
    (tmp_path / "compute/by-hand.png").write_bytes(b"three")

    verified = verify(tmp_path)

    assert verified.status == 0
    assert verified.report["images"] == 4
    assert verified.names("unknown") == ["compute/by-hand.png"]


def test_adopted_hashes_are_kept_and_checked_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "compute/by-hand.png"
    fill(tmp_path, {"a.png": b"one"})
    file.write_bytes(b"three")

    adopted = verify(tmp_path, "--adopt")
    after = verify(tmp_path)
    flip(file, 2)
    damaged = verify(tmp_path)

    assert (adopted.status, adopted.report["adopted"], adopted.report["counts"]) == (0, 1, {})
    assert (after.status, after.report["counts"]) == (0, {})
    assert damaged.names("damaged") == ["compute/by-hand.png"]


def test_a_file_that_was_written_in_place_is_changed_and_never_adopted(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": b"one", "b.png": b"one", "touched.png": b"two"})
    (tmp_path / "compute/a.png").write_bytes(b"other")
    (tmp_path / "compute/touched.png").touch()
    # A bad disk has changed the content type in the attribute, too.
    damaged = tmp_path / "compute/b.png"
    os.setxattr(damaged, "user.stillroom", os.getxattr(damaged, "user.stillroom")[:-1] + b"\xe7")
    damaged.write_bytes(b"other")

    verified = verify(tmp_path, "--adopt")

    assert (verified.status, verified.report["counts"]) == (1, {"changed": 2})
    assert {*verified.names("changed")} == {"compute/a.png", "compute/b.png"}
    assert verified.report["adopted"] == 1, "the other one is what it was"


@pytest.mark.parametrize("named", ["", "rules.toml", "rules/of/retention.toml"])
def test_what_the_documentation_puts_into_the_data_directory_is_no_stray(
    tmp_path: Path, named: str
) -> None:
    fill(tmp_path, {"a.png": b"one"})
    (tmp_path / "lost+found").mkdir()  # of an ext4 of its own
    (tmp_path / "retention.toml").touch()
    variables = {}
    if named:
        variables["STILLROOM_RETENTION_FILE"] = str(tmp_path / named)
        (tmp_path / named).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / named).touch()

    verified = verify(tmp_path, **variables)

    assert (verified.status, verified.names("stray")) == (0, [])


def test_whatever_is_no_image_is_astray(tmp_path: Path) -> None:
    fill(tmp_path, {"a/b.png": b"one"})
    folder = tmp_path / "compute/a"
    (folder / "link.png").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.png")
    (folder / "back\\slash.png").touch()
    (folder / "e\u0301.png").touch()  # not NFC
    (folder / "line\nfeed.png").touch()
    (tmp_path / "elsewhere.png").touch()
    deep = tmp_path / "compute" / "/".join(["d" * 250] * 4)
    deep.mkdir(parents=True)
    (deep / ("e" * 200)).touch()

    verified = verify(tmp_path)

    assert verified.status == 1
    assert sorted(verified.names("stray")) == sorted(
        [
            "compute/a/link.png",
            "compute/a/pipe.png",
            "compute/a/back\\slash.png",
            "compute/a/e\u0301.png",
            "compute/a/line\\nfeed.png",
            "elsewhere.png",
            f"compute/{'/'.join(['d' * 250] * 4)}/{'e' * 200}",
        ]
    )
    assert sorted(verify(tmp_path, "--prefix", "a/l").names("stray")) == [
        "compute/a/line\\nfeed.png",
        "compute/a/link.png",
    ]


def test_a_bad_image_is_quarantined_beside_a_running_server(tmp_path: Path) -> None:
    content = b"x" * 100_000
    with running(tmp_path) as server, server.client() as client:
        for name in ("good", "bad"):
            client.post(f"{IMAGES}/in/{name}.png", files={"file": content}).raise_for_status()
        until(lambda: found(client) == ["in/bad.png", "in/good.png"])
        until(lambda: "startup: compared" in server.logged())  # the next one is hours away
        flip(server.data / "compute/in/bad.png", 77_777)

        only_told = verify(server.data)
        assert client.get(f"{IMAGES}/in/bad.png").status_code == 200
        moved = verify(server.data, "--quarantine")

        assert only_told.status == moved.status == 1
        (finding,) = moved.report["findings"]
        assert client.get(f"{IMAGES}/in/bad.png").status_code == 404
        assert client.get(f"{IMAGES}/in/good.png").content == content
        assert verify(server.data).status == 0

        assert "index rebuild" not in only_told.log + moved.log, "--json is for scripts"
        assert found(client) == ["in/bad.png", "in/good.png"]
        assert command(server.data, "index", "rebuild").code == 0
        assert found(client) == ["in/good.png"]
    place = server.data / finding["quarantined"]
    kept = (place / "image").read_bytes()
    facts = json.loads((place / "facts.json").read_text())
    assert len(kept) == len(content)
    assert facts["key"] == "compute/in/bad.png"
    assert facts["sha256"] == hashlib.sha256(kept).hexdigest()
    assert facts["sha256_when_saved"] == hashlib.sha256(content).hexdigest()


def test_it_says_what_to_do_about_bad_images_and_the_index(tmp_path: Path) -> None:
    fill(tmp_path, {"good.png": b"one", "bad.png": b"two"})
    assert command(tmp_path, "verify").err == ""
    (tmp_path / "stray.png").touch()
    assert command(tmp_path, "verify").err == "", "nothing moves a stray file"
    flip(tmp_path / "compute/bad.png", 1)

    only_told = command(tmp_path, "verify").err
    moved = command(tmp_path, "verify", "--quarantine").err

    assert only_told == "move bad images away with --quarantine (docs/reliability.md#verify)\n"
    assert moved == "run `stillroom index rebuild`: searches still find moved images\n"


@pytest.mark.whole
def test_traffic_beside_it_is_never_a_finding(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        traffic = Traffic(server, seed=1)
        traffic.start()
        traffic.wait_until_some_is_promised()
        passes = [verify(server.data) for _ in range(5)]
        traffic.join()

        assert [(found.status, found.report["counts"]) for found in passes] == [(0, {})] * 5
        assert sum(found.report["images"] for found in passes) > 0


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_one_goes_on_where_it_was(tmp_path: Path, stop: signal.Signals) -> None:
    images = {f"{number:03}.bin": bytes([number]) * 20_000 for number in range(200)}
    fill(tmp_path, images)
    for path in ("000.bin", "199.bin"):
        flip(tmp_path / "compute" / path, 5)
    state = tmp_path / ".stillroom/verify.json"
    command = [STILLROOM, "verify", "--data-dir", str(tmp_path), "--rate", "250kB/s", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)

    until(
        lambda: state.exists() and json.loads(state.read_text())["images"] >= 10,
        by=process,
    )
    process.send_signal(stop)
    printed, _ = process.communicate(timeout=60)
    first = json.loads(printed)
    rest = verify(tmp_path)

    assert process.returncode == 3
    assert first["finished"] is False
    assert 10 <= first["images"] < 200
    assert rest.status == 1
    assert "resuming after 'compute/" in rest.log
    assert rest.names("damaged") == ["compute/000.bin", "compute/199.bin"]
    assert 200 <= rest.report["images"] <= 202, "two may have been under way"
    assert not state.exists()


def test_it_reads_no_faster_than_it_may(tmp_path: Path) -> None:
    fill(tmp_path, {f"{number}.bin": bytes(MIB) for number in range(3)})

    began = time.monotonic()
    verified = verify(tmp_path, "--rate", "1MiB/s")

    assert verified.status == 0
    assert time.monotonic() - began >= 3


def test_another_prefix_begins_anew(tmp_path: Path) -> None:
    fill(tmp_path, {"a/1.png": b"one", "b/2.png": b"two"})
    flip(tmp_path / "compute/b/2.png", 0)

    assert verify(tmp_path, "--prefix", "a/").status == 0
    assert verify(tmp_path, "--prefix", "b/").names("damaged") == ["compute/b/2.png"]


@pytest.mark.whole
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    def peak_of(data: Path, count: int) -> int:
        for number in range(count):
            folder = data / f"compute/{number // 5000}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.png").touch()
        return peak_bytes_of([STILLROOM, "verify", "--data-dir", str(data)])

    few = peak_of(tmp_path / "few", 20_000)
    many = peak_of(tmp_path / "many", 100_000)

    grown = (many - few) / 80_000
    assert grown < 200, f"grew by {grown:.0f} bytes an image"  # its name alone has some 50


def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    fill(tmp_path, {f"{number}.bin": bytes(50_000) for number in range(20)})
    ours, theirs = pty.openpty()
    command = [STILLROOM, "verify", "--data-dir", str(tmp_path), "--rate", "1MB/s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # the other side is closed: on a terminal that is EIO
    printed, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert b"20 images, 1.0 MB: all right" in printed
    assert b"images, " in shown
    assert "█".encode() in shown
    assert b"s left" in shown
    os.close(ours)


def test_a_folder_without_a_store_is_not_all_right_and_none_is_made(tmp_path: Path) -> None:
    verified = verify(tmp_path / "nowhere")

    assert verified.status == 2
    assert "there is no store in" in verified.log
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "flags", [("--rate", "fast"), ("--rate", "0MB"), ("--prefix", "../"), ("--data-dir", "/proc/x")]
)
def test_what_cannot_run_ends_with_two_and_one_sentence(
    tmp_path: Path, flags: tuple[str, str]
) -> None:
    fill(tmp_path, {})
    verified = verify(tmp_path, *flags)

    assert verified.status == 2
    assert "Traceback" not in verified.log
    assert verified.log.strip()
