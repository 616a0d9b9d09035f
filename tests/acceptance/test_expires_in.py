"""`Expires-In` on a save, over HTTP."""

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from command_line import Ran, ran
from running import IMAGES, STILLROOM, Server, free_port, running
from waiting import until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.hosts
@pytest.mark.both_paths(whole=True)
@pytest.mark.parametrize(
    ("field", "seconds"),
    [("7d", 604_800), ("90s", 90), ("15m", 900), ("12h", 43_200), ("3600", 3600), ("3650d", None)],
)
def test_the_answer_says_when_the_image_goes(
    client: httpx.Client, folder: str, field: str, seconds: int | None
) -> None:
    answer = client.post(
        f"{IMAGES}/{folder}/a.png", files={"file": PNG}, headers={"Expires-In": field}
    )

    assert answer.status_code == 200, answer.text
    expires_at = datetime.fromisoformat(answer.json()["expires_at"])
    lasts = timedelta(seconds=seconds or 315_360_000)
    assert timedelta(minutes=-1) < expires_at - datetime.now(UTC) - lasts <= timedelta(0)
    plain = client.post(f"{IMAGES}/{folder}/a.png", files={"file": PNG})
    assert "expires_at" not in plain.json()


@pytest.mark.both_paths(whole=True)
@pytest.mark.parametrize(
    "field",
    ["", "0", "0d", "-1", "1.5h", "7 d", "7w", "d", "soon", "3651d", "9" * 20, "7d, 7d", "٧d"],
)
def test_what_is_no_lifetime_is_refused_and_nothing_is_saved(
    client: httpx.Client, folder: str, field: str
) -> None:
    where = f"{IMAGES}/{folder}/a.png"
    headers = {"Expires-In": field.encode("utf-8")}
    answer = client.post(where, files={"file": PNG}, headers=headers)  # type: ignore[arg-type]  # not ASCII

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert answer.json()["detail"][0]["loc"] == ["header", "expires-in"]
    assert client.head(where).status_code == 404


def test_a_token_that_may_write_may_set_an_end(server: Server, folder: str) -> None:
    with server.client("--scope", "storage:write", "--prefix", folder) as writer:
        answer = writer.post(
            f"{IMAGES}/{folder}/a.png", files={"file": PNG}, headers={"Expires-In": "1h"}
        )
    assert answer.status_code == 200


def test_an_image_is_gone_when_its_end_has_come(tmp_path: Path) -> None:
    with running(tmp_path, sweep_interval_seconds="1") as server, server.client() as client:
        for name, lasts in (("a", "1"), ("b", "1h")):
            client.post(
                f"{IMAGES}/{name}.png", files={"file": PNG}, headers={"Expires-In": lasts}
            ).raise_for_status()
        until(lambda: client.head(f"{IMAGES}/a.png").status_code != 200)
        assert client.head(f"{IMAGES}/b.png").status_code == 200


def test_without_its_database_a_save_with_an_end_is_refused_and_others_are_not(
    tmp_path: Path,
) -> None:
    url = "postgresql://stillroom@127.0.0.1:1/none"
    with running(tmp_path, database_url=url) as server, server.client() as client:
        where = f"{IMAGES}/a.png"
        refused = client.post(where, files={"file": PNG}, headers={"Expires-In": "7d"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert client.head(where).status_code == 404
        assert client.post(where, files={"file": PNG}).status_code == 200


def test_metadata_and_runs_say_when_it_ends_by_the_rules(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/retention.toml").write_text(
        '[[rule]]\nprefix = "tmp/"\nexpire_after = "7d"\n'
        '[[rule]]\nprefix = "tmp/best/"\nkeep = true\n'
    )
    metadata, runs = "/api/v1/storage/metadata", "/api/v1/storage/runs"
    with running(tmp_path) as server, server.client() as client:
        assert "retention: rule 1 ('tmp/'), rule 2 ('tmp/best/')" in server.logged()
        for path in ("tmp/a.png", "tmp/run/1.png", "tmp/best/1.png", "b.png"):
            client.post(f"{IMAGES}/{path}", files={"file": PNG})
        client.post(f"{runs}/tmp/run/publish", json={}).raise_for_status()
        client.post(f"{runs}/tmp/best/publish", json={}).raise_for_status()

        said = {
            path: client.get(f"{metadata}/{path}").json()["expires_at"]
            for path in ("tmp/a.png", "tmp/run/1.png", "tmp/best/1.png", "b.png")
        }
        listed = {run["folder"]: run["expires_at"] for run in client.get(runs).json()}
        before = client.get(f"{metadata}/b.png").headers["etag"]
        client.post(f"{IMAGES}/c.png", files={"file": PNG}, headers={"Expires-In": "1h"})
        ends = client.get(f"{metadata}/c.png")

    week = datetime.now(UTC) + timedelta(days=7)
    for when in (said["tmp/a.png"], said["tmp/run/1.png"], listed["tmp/run"]):
        assert timedelta(0) < week - datetime.fromisoformat(when) < timedelta(minutes=1)
    assert said["tmp/best/1.png"] is said["b.png"] is listed["tmp/best"] is None
    assert datetime.fromisoformat(ends.json()["expires_at"]) < week
    digests = {etag.rpartition("-")[2] for etag in (ends.headers["etag"], before)}
    assert len(digests) == 2, "another expiration is no 304"


@pytest.mark.parametrize("named", [True, False])
def test_rules_that_are_wrong_stop_the_start_with_their_line(
    tmp_path: Path, *, named: bool
) -> None:
    file = tmp_path / ("rules.toml" if named else "data/retention.toml")
    file.parent.mkdir(exist_ok=True)
    file.write_text('[[rule]]\nprefix = "tmp/"\nexpire_after = "soon"')
    variables = {"STILLROOM_DATA_DIR": str(tmp_path / "data"), "STILLROOM_PORT": str(free_port())}
    if named:
        variables["STILLROOM_RETENTION_FILE"] = str(file)

    says = f"{str(file)!r}, line 3: expire_after of rule 1 must be a duration"
    started = subprocess.run(
        [STILLROOM, "serve"], check=False, capture_output=True, env={**os.environ, **variables}
    )
    assert started.returncode == 2
    assert says in started.stderr.decode()
    for command in (("retention", "plan"), ("media", "sweep")):
        refused = ran(tmp_path, command, variables)
        assert refused.code == 2
        assert says in refused.err


def test_the_plan_on_the_command_line_says_what_would_go(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with running(tmp_path, deletion_grace_seconds="5") as server, server.client() as client:
        for path in ("tmp/a.png", "tmp/run/1.png", "tmp/run/2.png", "b.png"):
            client.post(f"{IMAGES}/{path}", files={"file": PNG})
        client.post("/api/v1/storage/runs/tmp/run/publish", json={}).raise_for_status()

        def plan(*words: str) -> Ran:
            return ran(tmp_path, ("retention", "plan", *words), server.environment)

        assert "there are no rules, so nothing expires" in plan().err
        (tmp_path / "data/retention.toml").write_text(
            '[[rule]]\nprefix = "tmp/"\nexpire_after = "7d"'
        )
        assert plan().out == ""
        assert (
            "on a server that runs with these rules, a scan is due now; "
            "a start with changed rules begins a scan"
        ) in plan().err
        later = (datetime.now(UTC) + timedelta(days=8)).isoformat()
        said, summary = plan("--at", later), plan("--at", later, "--summary")
        *images, counts = map(json.loads, plan("--at", later, "--json").out.splitlines())
        wrong = plan("--at", "soon")
        left = client.get(IMAGES).json()

    assert [line.split()[-1] for line in said.out.splitlines()] == [
        "tmp/a.png",
        "tmp/run/1.png",
        "tmp/run/2.png",
    ]
    assert {line.split()[1:3] == ["rule", "1"] for line in said.out.splitlines()} == {True}
    assert "rule 1 ('tmp/'): 3 images, 324 B, 1 run" in said.err
    assert "deleted 60 s after a scan has found them" in said.err, "a shorter grace does not apply"
    assert (summary.out, summary.err) == ("", said.err)
    assert [(image["path"], image["run"]) for image in images] == [
        ("tmp/a.png", None),
        ("tmp/run/1.png", "tmp/run"),
        ("tmp/run/2.png", "tmp/run"),
    ]
    assert counts["rules"] == {"rule 1": {"images": 3, "bytes": 324, "runs": 1}}
    assert (counts["images"], counts["bytes"], counts["runs"]) == (3, 324, 1)
    assert wrong.code == 2
    assert "--at must be a time such as 2026-12-01" in wrong.err
    assert len(left) == 4


def test_the_plan_shows_when_a_scheduled_deletion_is_due(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/retention.toml").write_text('[[rule]]\nprefix = "a"\nexpire_after = "1s"')
    with running(tmp_path, sweep_interval_seconds="0.2") as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": PNG})

        def marked() -> Ran | None:
            said = ran(tmp_path, ("retention", "plan"), server.environment)
            return said if "deletion at" in said.out else None

        said = until(marked)

    assert re.search(r"a\.png  \(deletion at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)$", said.out.strip())
