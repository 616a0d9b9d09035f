"""`stillroom doctor`: it finds what is broken, names a remedy, and leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import ran
from events.receiving import SECRET as SIGNING_SECRET
from patience import hurry
from running import Server, free_port
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS


def doctor(folder: Path, *flags: str, **variables: str) -> tuple[int, str]:
    done = ran(folder, ("doctor", *flags), variables)
    return done.code, done.out


def bucket(seaweed: SeaweedFS, **more: str) -> dict[str, str]:
    return {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
        "STILLROOM_JWT_SECRET": "s" * 32,
        **more,
    }


def test_a_healthy_disk_is_well_and_left_as_it_was(server: Server, tmp_path: Path) -> None:
    before = sorted((server.data / "compute").rglob("*.png"))

    code, said = doctor(tmp_path, **server.environment, STILLROOM_URL=server.url)

    assert (code, "WRONG" in said) == (0, False), said
    for subject in (
        "secret",
        "filesystem",
        "saving",
        "listing",
        "copying",
        "reading",
        "deleting",
        "database",
    ):
        assert f"ok    {subject}" in said
    assert "of 127.0.0.1" in said or "behind 127.0.0.1" in said
    assert sorted((server.data / "compute").rglob("*.png")) == before


def test_before_the_first_start_nothing_is_made(tmp_path: Path) -> None:
    code, said = doctor(tmp_path)
    assert (code, "the first start creates" in said) == (0, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "media ingest a.png", "media sweep", "media orphans", "media dead-letters list",
        "media dead-letters drop --all", "index rebuild", "retention plan",
    ],
)  # fmt: skip
def test_in_a_wrong_folder_nothing_is_all_right_and_no_store_is_made(
    words: str, tmp_path: Path
) -> None:
    done = ran(tmp_path, tuple(words.split()), {})

    assert (done.code, done.out) == (2, "")
    assert "there is no store in 'stillroom-data': set STILLROOM_DATA_DIR" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"R2_ACCESS_KEY_ID": "only-half"}, "R2_ENDPOINT_URL"),
        ({"STILLROOM_PORT": "none"}, "STILLROOM_PORT"),
        ({"STILLROOM_JWT_SECRET": "short"}, "WRONG secret"),
        ({"STILLROOM_MIN_FREE_BYTES": str(10**18)}, "free some space"),
        ({"STILLROOM_DURABILITY": "none"}, "unset STILLROOM_DURABILITY"),
        (
            {"STILLROOM_DATABASE_URL": f"postgresql://u:hidden@127.0.0.1:{free_port()}/d"},
            "check that PostgreSQL runs",
        ),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(
    tmp_path: Path, variables: dict[str, Any], said: str
) -> None:
    (tmp_path / "stillroom-data").mkdir()
    code, found = doctor(tmp_path, **{"STILLROOM_MIN_FREE_BYTES": "0", **variables})
    assert code == 1, found
    assert said in found
    assert "WRONG" in found
    assert "-> " in found
    assert "hidden" not in found


@pytest.mark.parametrize(
    ("url", "mode", "verdict", "said"),
    [
        ("https://a.example/hook", None, "WRONG settings", "secret_file of endpoint 1"),
        ("ftp://a.example/hook", 0o600, "WRONG settings", "url of endpoint 1 must be a URL"),
        ("https://a.example/hook", 0o644, "note  settings", "other users can read the webhook"),
        ("https://a.example/hook", 0o600, "ok    settings", "read"),
    ],
)
def test_webhooks_are_read_as_the_server_reads_them(
    tmp_path: Path, url: str, mode: int | None, verdict: str, said: str
) -> None:
    folder = tmp_path / "stillroom-data"
    folder.mkdir()
    (folder / "webhooks.toml").write_text(
        f'[[endpoint]]\nname = "a"\nurl = "{url}"\nsecret_file = "a.secret"\n'
    )
    if mode is not None:
        (folder / "a.secret").write_text(SIGNING_SECRET)
        (folder / "a.secret").chmod(mode)

    code, found = doctor(tmp_path)

    assert code == (verdict == "WRONG settings"), found
    (line,) = (line for line in found.splitlines() if line.startswith(verdict) and said in line)
    assert said in line
    assert found.count("other users") == (mode == 0o644)


def test_a_bucket_and_its_cdn_are_tried(
    seaweed: SeaweedFS, operator: Operator, tmp_path: Path
) -> None:
    code, said = doctor(tmp_path, **bucket(seaweed))
    assert (code, "WRONG" in said) == (0, False), said
    assert "serves what was saved" in said
    assert "behind 127.0.0.1" in said or "ahead of 127.0.0.1" in said

    public = f"{seaweed.endpoint_url}/{BUCKET}"
    code, said = doctor(tmp_path, **bucket(seaweed, R2_PUBLIC_URL=public))
    assert (code, said.count("WRONG")) == (1, 1), said
    assert "set it to `nosniff`" in said

    elsewhere = f"{seaweed.endpoint_url}/other-bucket"
    code, said = doctor(tmp_path, **bucket(seaweed, R2_PUBLIC_URL=elsewhere))
    assert (code, "R2_PUBLIC_URL must serve this bucket" in said) == (1, True), said
    assert operator.keys("compute/stillroom-doctor/") == []


def test_a_bucket_that_refuses_is_told_with_the_rights_it_takes(
    seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, deadline_s=5, timeout_s=5)  # for the one that does not exist
    for variables in (
        {"R2_SECRET_ACCESS_KEY": "wrong"},
        {"R2_BUCKET_NAME": "no-such-bucket"},
        {"R2_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"},
    ):
        code, said = doctor(tmp_path, **bucket(seaweed, **variables))
        assert (code, "Object Read & Write" in said) == (1, True), said
        assert SECRET not in said


def test_a_script_reads_each_check_as_json(tmp_path: Path) -> None:
    code, said = doctor(tmp_path, "--json", STILLROOM_JWT_AUDIENCE="x", STILLROOM_DURABILITY="some")

    found = [json.loads(line) for line in said.splitlines()]
    assert code == 1
    assert found[0]["verdict"] == "wrong"
    assert "STILLROOM_DURABILITY" in found[0]["said"]
    assert found[0]["remedy"]


LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><ID>abandoned-uploads</ID><Status>Enabled</Status>"
    b"<Filter><Prefix>temp/</Prefix></Filter><Expiration><Days>1</Days></Expiration>"
    b"</Rule></LifecycleConfiguration>"
)
CORS = (
    b"<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example.com</AllowedOrigin>"
    b"<AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader>"
    b"</CORSRule></CORSConfiguration>"
)


def test_what_uploads_need_of_a_bucket_is_printed_ready_to_paste(
    seaweed: SeaweedFS, operator: Operator, tmp_path: Path
) -> None:
    variables = bucket(seaweed, STILLROOM_CORS_ORIGINS="https://app.example.com")

    code, said = doctor(tmp_path, "--json", **variables)

    found = [json.loads(line) for line in said.splitlines()]
    uploads = [one for one in found if one["subject"] == "uploads"]
    assert code == 0, said
    assert uploads[0]["said"].startswith("the bucket enforces Content-Length, x-amz-checksum")
    lifecycle, cors = (json.loads(one["remedy"].removeprefix("add ")) for one in uploads[1:])
    assert lifecycle["Rules"][0]["Filter"] == {"Prefix": "temp/"}
    assert lifecycle["Rules"][0]["Expiration"] == {"Days": 1}
    assert cors[0]["AllowedOrigins"] == ["https://app.example.com"]
    assert cors[0]["AllowedMethods"] == ["PUT"]
    assert operator.keys(".stillroom/") == []

    for kind, rules in (("lifecycle", LIFECYCLE), ("cors", CORS)):
        answer = operator.send("PUT", f"/{BUCKET}", query={kind: ""}, body=rules)
        assert answer.status_code == 200, answer.text
    try:
        code, said = doctor(tmp_path, **variables)
        _, others = doctor(tmp_path, **{**variables, "STILLROOM_CORS_ORIGINS": "https://b.example"})
        gallery = {"STILLROOM_PUBLIC_BASE_URL": "https://images.example.com/pictures"}
        _, with_gallery = doctor(tmp_path, **variables, **gallery)
        _, without = doctor(tmp_path, **variables, **gallery, STILLROOM_GALLERY="false")
    finally:
        for kind in ("lifecycle", "cors"):
            operator.send("DELETE", f"/{BUCKET}", query={kind: ""})
    assert code == 0
    assert "ok    uploads     the bucket has the lifecycle rule for uploads" in said
    assert "ok    uploads     the bucket has the cors rule for uploads" in said
    assert "ok    uploads     the bucket has the cors rule for uploads" in without
    assert "note  uploads     the bucket has no cors rule for uploads" in others
    assert '["https://app.example.com", "https://images.example.com"]' in with_gallery
