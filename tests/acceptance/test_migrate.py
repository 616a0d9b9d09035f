"""`stillroom migrate`, as an operator runs it: against a real S3 server, killed, and run again."""

import asyncio
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.migrating import MANY, facts, migrate, settings_file, write
from acceptance.test_verify import fill
from crash.traffic import Traffic
from pictures import picture
from running import IMAGES, STILLROOM, running, verify
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from services.stub_r2 import Stored, StubR2, served
from services.stub_wire import BUCKET as STUB_BUCKET
from services.stub_wire import KEY_ID as STUB_KEY_ID
from services.stub_wire import SECRET as STUB_SECRET
from stillroom.settings import AllSettings
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.whole]


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


@pytest.mark.whole
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
        done = until(
            lambda: max(0, report.read_text().count('"copied"') - stop_at),  # noqa: B023  (at once)
            by=process,
        )
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
    before = facts(AllSettings.of_values(data_dir=source))
    assert len(before) == len(images)
    assert before["media/1/file.png"][1] == "image/png"
    for settings in (
        AllSettings.read_file(bucket),
        AllSettings.read_file(second),
        AllSettings.of_values(data_dir=back),
        AllSettings.of_values(data_dir=third),
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

    found = facts(AllSettings.of_values(data_dir=tmp_path / "back"))["compute/x.bin"]
    assert found[:2] == (3, "image/x-raw")


async def test_what_a_disk_cannot_hold_is_told_and_the_rest_arrives(tmp_path: Path) -> None:
    async with served(StubR2()) as stub:
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
    assert "stray  compute/x//y: not a valid path" in ran.out
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
        facts(AllSettings.of_values(data_dir=server.data)),
        facts(AllSettings.read_file(bucket)),
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
    beside = migrate("--from", tmp_path / "data", "--to", tmp_path / "beside", "--dry-run")
    # Images are compared at the same time, so that their order may differ.
    assert sorted(beside.out.splitlines()) == sorted(dry.out.splitlines())
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
