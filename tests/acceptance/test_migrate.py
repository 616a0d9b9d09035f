"""`stillroom migrate`, as an operator runs it: against a real S3 server, killed, and run again."""

import asyncio
import contextlib
import hashlib
import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_verify import fill, flip
from crash.traffic import Traffic
from pictures import picture
from running import IMAGES, STILLROOM, running, verify
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from services.stub_r2 import BUCKET as STUB_BUCKET
from services.stub_r2 import KEY_ID as STUB_KEY_ID
from services.stub_r2 import SECRET as STUB_SECRET
from services.stub_r2 import Stored, stub_r2
from stillroom.media.config import SqliteConfig
from stillroom.media.migrations import migrate as migrate_tables
from stillroom.media.resource import IMAGE, RELOCATED, MediaResource, new_id, now
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.tables import deletions
from stillroom.media.rows.transfer import RowTransfer
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.settings import Settings
from stillroom.storage.choose import open_storage
from stillroom.storage.disk.attributes import Attributes
from stillroom.storage.values import ListQuery

pytestmark = [pytest.mark.slow, pytest.mark.whole]

MANY = 10_000


@dataclass
class Migrated:
    """How it ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def migrate(*words: str | Path) -> Migrated:
    ran = subprocess.run(
        [STILLROOM, "migrate", *words], capture_output=True, text=True, timeout=250, check=False
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Migrated(ran.returncode, ran.stdout, ran.stderr)


def settings_file(file: Path, **values: object) -> Path:
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return file


@pytest.fixture
def bucket(seaweed: SeaweedFS, tmp_path: Path) -> Iterator[Path]:
    """The settings of a server that keeps its images in a bucket."""
    yield settings_file(
        tmp_path / "bucket.env",
        R2_ENDPOINT_URL=seaweed.endpoint_url,
        R2_ACCESS_KEY_ID=KEY_ID,
        R2_SECRET_ACCESS_KEY=SECRET,
        R2_BUCKET_NAME=BUCKET,
        STILLROOM_DATA_DIR=tmp_path / "rows",
    )
    seaweed.empty()


def write(data: Path, images: dict[str, bytes]) -> None:
    """What saves leave on a disk, in a tenth of the time."""
    for path, content in images.items():
        file = data / "compute" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            opened.write(content)
            opened.flush()
            now_ns = os.fstat(opened.fileno()).st_mtime_ns
            known = Attributes(now_ns, hashlib.sha256(content).digest(), "image/png")
            known.write(opened.fileno())


def facts(settings: Settings) -> dict[str, tuple[int, str, bytes | None, int]]:
    """Size, type, hash and time of all that is there."""

    async def look() -> dict[str, tuple[int, str, bytes | None, int]]:
        storage = open_storage(settings.storage, settings.save_rules)
        found = {}
        for prefix in ("compute/", "media/"):
            page = await storage.entries(ListQuery(KeyPrefix(prefix), limit=MANY))
            for entry in page.entries:
                assert not isinstance(entry, KeyPrefix)
                found[entry.key.text] = (
                    entry.size,
                    entry.content_type,
                    entry.sha256,
                    entry.modified_ns // 1000,
                )
        await storage.close()
        return found

    return asyncio.run(look())


@pytest.mark.whole
@pytest.mark.timeout(400)  # half a minute where nothing else runs
def test_killed_again_and_again_ten_thousand_images_arrive_once_and_whole(
    tmp_path: Path, bucket: Path
) -> None:
    dice = random.Random(5)
    images = {
        f"{number % 40:02}/{number:05}.png": b"\x89PNG\r\n\x1a\n%d" % number + bytes(number % 700)
        for number in range(MANY)
    }
    source = tmp_path / "source"
    write(source, images)
    report = tmp_path / "report.jsonl"
    report.touch()
    words = (f"--from={source}", f"--to={bucket}", f"--report={report}")
    killed_at = []
    for stop_at in (dice.randrange(100, 900), 2500, 5000):
        process = subprocess.Popen([STILLROOM, "migrate", *words], stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 100
        while (done := report.read_text().count('"copied"')) < stop_at:
            assert time.monotonic() < give_up
            assert process.poll() is None
            time.sleep(0.02)  # a condition with a deadline: the file tells nobody
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed_at.append(done)
    assert killed_at[-1] < MANY

    last = migrate(*words, "--json")

    assert (last.status, last.json["finished"], last.json["problems"]) == (0, True, [])
    assert last.json["counts"]["same"] >= killed_at[-1]
    assert last.json["images"] == MANY
    copied = [
        line["name"]
        for line in map(_line, report.read_text().splitlines())
        if line.get("outcome") == "copied"
    ]
    assert len(copied) == len(set(copied)), "nothing is copied twice"
    assert len(copied) >= MANY - 3 * 400, "what came in the last moments before a kill is not said"
    assert _verified(bucket) == {"images": MANY, "counts": {}, "problems": 0}


def library_of(data: Path, count: int) -> list[MediaResource]:
    """Resources as ingests leave them: bytes, rows, and marks of their sources."""
    rows = SqliteConfig(data / ".stillroom/library.db", durable=False)
    found = []
    for number in range(count):
        content, identity = b"\x89PNG\r\n\x1a\n%d" % number, new_id()
        key = StorageKey.of_media(identity, "png")
        write(data, {f"{number}.png": content, f"../{key.text}": content})
        found.append(
            MediaResource(
                id=identity, resource_type=IMAGE, storage_key=key, save_id="theirs",
                content_hash=hashlib.sha256(content).digest(), extension="png",
                content_type="image/png", file_size=len(content), width=1, height=1,
                color_profile=None, protected=False, alt_text=f"{number}", caption=None,
                created_at=now(),
            )
        )  # fmt: skip

    async def remember() -> None:
        engine = RowsEngine(rows)
        handover = RowTransfer(engine)
        await handover.take(found, set())
        storage = open_storage(
            Settings.of_values(data_dir=data).storage, Settings.of_values(data_dir=data).save_rules
        )
        marks = []
        for number in range(0, count, 3):
            image = await storage.stat(StorageKey(f"compute/{number}.png"))
            marks.append(
                {
                    "storage_key": image.key, "save_id": image.save_id, "reason": RELOCATED,
                    "created_at": now(), "due_at": now(), "attempts": 0,
                }
            )  # fmt: skip
        await handover.remember(deletions, marks)
        await storage.close()
        await engine.close()

    migrate_tables(rows)
    asyncio.run(remember())
    return found


def rows_in(file: Path) -> tuple[int, int]:
    """Resources and marks in a library that somebody else writes to."""
    uri = f"file:{file}?mode=ro"
    with (
        contextlib.suppress(sqlite3.OperationalError),  # not yet made
        contextlib.closing(sqlite3.connect(uri, uri=True)) as connection,
    ):
        tables = ("media_resources", "media_deletions")
        resources, marks = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
        )
        return resources, marks
    return 0, 0


def test_killed_while_its_rows_follow_a_library_arrives_once_and_whole(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    resources = library_of(source, 1800)
    settings = settings_file(
        tmp_path / "target.env", STILLROOM_DATA_DIR=target, STILLROOM_DURABILITY="none"
    )
    words = (f"--from={source}", f"--to={settings}", "--json")
    library = target / ".stillroom/library.db"
    process = subprocess.Popen([STILLROOM, "migrate", *words], stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 100
    while rows_in(library)[0] < 500:
        assert time.monotonic() < give_up
        assert process.poll() is None
        time.sleep(0.005)  # a condition with a deadline: a database tells nobody
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert rows_in(library) < (1800, 600), "killed too late to show anything"

    last = migrate(*words)
    again = migrate(*words)

    assert (last.status, last.json["rows"]["left_out"]) == (0, [])
    assert last.json["counts"] == {"same": 3600}
    assert last.json["rows"]["counts"]["same"] >= 500
    assert rows_in(library) == (1800, 600)
    assert again.json["rows"]["counts"] == {"same": 1800}
    assert (again.json["rows"]["marks"], again.json["rows"]["taken_back"]) == (0, 0)
    with contextlib.closing(sqlite3.connect(library)) as connection:
        texts = connection.execute("SELECT alt_text FROM media_resources").fetchall()
    assert {text for (text,) in texts} == {resource.alt_text for resource in resources}


def _line(text: str) -> dict[str, str]:
    """The last one before a kill may have no end."""
    try:
        found: dict[str, str] = json.loads(text)
    except ValueError:
        return {}
    return found


def _verified(settings: Path) -> dict[str, Any]:
    """What `stillroom verify` says of a bucket: it reads every byte again."""
    lines = settings.read_text().splitlines()
    environment = {**os.environ, **dict(line.split("=", 1) for line in lines)}
    ran = subprocess.run(
        [STILLROOM, "verify", "--json"], env=environment, capture_output=True, check=False
    )
    report = json.loads(ran.stdout)
    return {name: report[name] for name in ("images", "counts", "problems")}


def test_there_and_back_everything_is_as_it_was(
    tmp_path: Path, bucket: Path, operator: Operator
) -> None:
    names = ["a b/кошка & 猫.png", "100%.png", "plus+.webp", "empty.bin", "deep/" * 30 + "x.txt"]
    images = {name: name.encode() * 9 for name in names} | {"empty.bin": b""}
    images["large.bin"] = random.Random(1).randbytes(17 * 1024**2)
    images["picture"] = picture(1)
    source, back, third = tmp_path / "source", tmp_path / "back", tmp_path / "third"
    fill(source, images)
    (source / "media/1").mkdir(parents=True)
    (source / "compute/picture").rename(source / "media/1/file.png")
    back.mkdir()

    operator.make_bucket("second")
    second = tmp_path / "second.env"
    text = bucket.read_text().replace(f"R2_BUCKET_NAME={BUCKET}", "R2_BUCKET_NAME=second")
    second.write_text(text.replace("/rows", "/second-rows"))

    there = migrate("--from", source, "--to", bucket)
    across = migrate("--from", bucket, "--to", second)
    home = migrate("--from", second, "--to", back, "--json")
    third.mkdir()
    beside = migrate("--from", source, "--to", third)

    runs = (there, across, home, beside)
    assert [ran.status for ran in runs] == [0] * 4, [ran.out for ran in runs]
    before = facts(Settings.of_values(data_dir=source))
    assert len(before) == len(images)
    assert before["media/1/file.png"][1] == "image/png"
    for settings in (
        Settings.read_file(bucket),
        Settings.read_file(second),
        Settings.of_values(data_dir=back),
        Settings.of_values(data_dir=third),
    ):
        assert facts(settings) == before
    for name in before:
        assert (back / name).read_bytes() == (source / name).read_bytes()
    assert home.json["bytes"] == sum(len(image) for image in images.values())
    assert verify(back).status == 0


def test_what_the_library_has_kept_has_the_cache_policy_of_the_library(
    tmp_path: Path, bucket: Path, operator: Operator
) -> None:
    fill(tmp_path / "source", {"a.svg": b"<svg/>"})
    (tmp_path / "source/media/1").mkdir(parents=True)
    (tmp_path / "source/media/1/file.png").write_bytes(picture(1))

    assert migrate("--from", tmp_path / "source", "--to", bucket).status == 0

    svg = operator.send("HEAD", f"/{BUCKET}/compute/a.svg")
    assert svg.headers["content-disposition"] == "attachment"
    assert svg.headers["cache-control"] == "public, max-age=300"
    kept = operator.send("HEAD", f"/{BUCKET}/media/1/file.png")
    assert "immutable" in kept.headers["cache-control"]


def test_a_type_that_another_tool_has_given_goes_along(
    tmp_path: Path, bucket: Path, operator: Operator
) -> None:
    operator.put("compute/x.bin", b"raw", headers={"content-type": "image/x-raw"})
    (tmp_path / "back").mkdir()

    assert migrate("--from", bucket, "--to", tmp_path / "back").status == 0

    found = facts(Settings.of_values(data_dir=tmp_path / "back"))["compute/x.bin"]
    assert found[:2] == (3, "image/x-raw")


async def test_what_a_disk_cannot_hold_is_told_and_the_rest_arrives(tmp_path: Path) -> None:
    async with stub_r2() as stub:
        for name in ("a", "a/b", "c"):
            stub.objects[f"compute/{name}"] = Stored(
                name.encode(), {"Content-Type": "image/png"}, f'"{name}"'
            )
        stub.objects["compute/x//y"] = Stored(b"x", {}, '"x"')
        source = settings_file(
            tmp_path / "stub.env",
            R2_ENDPOINT_URL=stub.endpoint_url,
            R2_ACCESS_KEY_ID=STUB_KEY_ID,
            R2_SECRET_ACCESS_KEY=STUB_SECRET,
            R2_BUCKET_NAME=STUB_BUCKET,
            STILLROOM_DATA_DIR=tmp_path / "rows",
        )
        target = tmp_path / "target"
        target.mkdir()
        ran = await asyncio.to_thread(migrate, "--from", source, "--to", target)
        writes = {"PutObject", "DeleteObject", "CopyObject"} & set(stub.operations)

    assert ran.status == 1
    assert "failed  compute/a" in ran.out
    assert "stray  compute/x//y: no path is such a key" in ran.out
    assert "3 images: " in ran.out
    assert "2 copied" in ran.out
    assert (target / "compute/c").read_bytes() == b"c"
    assert writes == set(), "the source is never changed"


def test_a_store_that_is_written_to_meanwhile_needs_one_more_run(
    tmp_path: Path, bucket: Path
) -> None:
    with running(tmp_path) as server:
        traffic = Traffic(server, seed=3)
        traffic.start()
        traffic.wait_until_some_is_promised()
        during = migrate("--from", server.data, "--to", bucket, "--json")
        traffic.join()
        after = migrate("--from", server.data, "--to", bucket, "--json")

    assert during.status == 0, during.out
    assert after.status == 0, after.out
    source, target = (
        facts(Settings.of_values(data_dir=server.data)),
        facts(Settings.read_file(bucket)),
    )
    assert {name: found[2] for name, found in target.items() if name in source} == {
        name: found[2] for name, found in source.items()
    }


def test_the_library_follows_and_a_server_goes_on_with_it(tmp_path: Path, bucket: Path) -> None:
    library = "/api/v1/media-resources"
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": picture(1)}).raise_for_status()
        made = client.post(f"{library}/ingest", json={"storage_key": "compute/a.png"}).json()

    dry = migrate("--from", tmp_path / "data", "--to", bucket, "--dry-run")
    assert not (tmp_path / "rows").exists()
    (tmp_path / "beside").mkdir()
    assert (
        migrate("--from", tmp_path / "data", "--to", tmp_path / "beside", "--dry-run").out
        == dry.out
    )
    assert list((tmp_path / "beside").iterdir()) == []
    ran = migrate("--from", tmp_path / "data", "--to", bucket)

    assert "would copy  compute/a.png\n" in dry.out
    assert "it would be 2 copied" in dry.out
    assert "1 resource: 1 new" in dry.out
    assert (ran.status, ran.err) == (0, "")
    assert "2 images: 2 copied" in ran.out
    assert "1 resource: 1 new, 1 mark" in ran.out
    lines = [line.split("=", 1) for line in bucket.read_text().splitlines()]
    with pytest.MonkeyPatch.context() as patched:
        for name, value in lines:
            patched.setenv(name, value)
        with running(tmp_path, data=tmp_path / "rows") as server, server.client() as client:
            found = client.get(f"{library}/{made['id']}").json()
            assert found["content_hash"] == made["content_hash"]
            file = client.get(f"{library}/{made['id']}/file", follow_redirects=True)
            assert file.content == picture(1)


def test_rows_alone_move_to_another_database(tmp_path: Path, database_url: str) -> None:
    library = "/api/v1/media-resources"
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": picture(1)}).raise_for_status()
        made = client.post(f"{library}/ingest", json={"storage_key": "compute/a.png"}).json()
    before = facts(Settings.of_values(data_dir=tmp_path / "data"))
    new = settings_file(
        tmp_path / "new.env",
        STILLROOM_DATA_DIR=tmp_path / "data",
        STILLROOM_DATABASE_URL=database_url,
    )

    ran = migrate("--from", tmp_path / "data", "--to", new)

    assert (ran.status, ran.err) == (0, "")
    assert "1 resource: 1 new, 1 mark" in ran.out
    assert facts(Settings.of_values(data_dir=tmp_path / "data")) == before
    with running(tmp_path, database_url=database_url) as server, server.client() as client:
        assert client.get(f"{library}/{made['id']}").json() == made | {
            "url": f"{server.url}{library}/{made['id']}/file"
        }


def test_damage_is_told_and_ends_with_one(tmp_path: Path) -> None:
    fill(tmp_path / "source", {"a.png": b"one" * 100, "b.png": b"two" * 100})
    flip(tmp_path / "source/compute/b.png", 7)
    (tmp_path / "target").mkdir()

    ran = migrate("--from", tmp_path / "source", "--to", tmp_path / "target")
    fill(tmp_path / "target", {"b.png": b"other"})
    differs = migrate("--from", tmp_path / "source", "--to", tmp_path / "target", "--json")

    assert ran.status == 1
    assert "failed  compute/b.png: the bytes that came have the SHA-256" in ran.out
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
    process = subprocess.Popen([*words, "--rate", "1MB/s"], stdout=subprocess.PIPE)
    folder = target / "compute"
    give_up = time.monotonic() + 60
    while not folder.exists() or len(list(folder.iterdir())) < 10:
        assert time.monotonic() < give_up
        assert process.poll() is None
        time.sleep(0.02)  # a condition with a deadline: folders tell nobody
    process.send_signal(stop)
    printed, _ = process.communicate(timeout=30)
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
    printed, _ = process.communicate(timeout=30)
    os.close(ours)

    assert process.returncode == 0
    assert b"20 images: 20 copied, 1.0 MB" in printed
    assert b"/20" in shown
    assert b"B/s" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --from, --to or both"),
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

    settings = Settings.read_file(file)

    assert settings.r2_bucket_name == "images"
    assert settings.r2_secret_access_key.get_secret_value() == "a$b${HOME}c#d"
    assert settings.cors_origins == ["https://a.example.com", "https://b.example.com"]
    assert (settings.database_url, settings.port) == (None, 8000)
    monkeypatch.setenv("R2_ENDPOINT_URL", "https://r2.example.com")
    assert Settings.of_values(data_dir=tmp_path).r2_endpoint_url == ""
