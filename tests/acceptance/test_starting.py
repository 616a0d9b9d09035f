"""Starting, stopping, and the commands around it."""

import concurrent.futures
import os
import shlex
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import httpx
import pytest

from running import IMAGES, STILLROOM, Server, free_port, running, wait_until_ready
from waiting import until


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STILLROOM")}
    return subprocess.run(
        [STILLROOM, *arguments],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        timeout=60,
        check=False,
    )


def test_the_first_start_makes_a_secret_and_says_how_to_mint_a_token(tmp_path: Path) -> None:
    with running(tmp_path, program=STILLROOM) as server:
        log = server.logged()
        assert "storage: DiskImageStorage at" in log
        assert "made a token secret in" in log
        command = log.partition("mint one with: ")[2].partition("\n")[0]
        program = "stillroom" if shutil.which("stillroom") else shlex.quote(str(STILLROOM))
        assert command == f"{program} token --data-dir {server.data}"
        token = run(*shlex.split(command)[1:]).stdout.strip()  # where no variable names the folder
        answer = httpx.get(server.images, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert f"Gallery: {server.url}/\n" in log
        assert (server.data / ".stillroom/secret").stat().st_mode & 0o777 == 0o600
    with running(tmp_path) as server:
        assert server.logged().count("made a token secret in") == 1
        assert server.stop() == 0
        assert "Traceback" not in server.logged()


def test_a_token_is_printed_alone_and_outlives_a_restart(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    printed = run("token", "--data-dir", str(tmp_path / "data"), "--expires", "1h")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout.count("\n") == 1

    with running(tmp_path) as server:
        headers = {"Authorization": f"Bearer {printed.stdout.strip()}"}
        assert httpx.get(server.images, headers=headers).json() == []


def test_a_configured_secret_is_used_and_an_old_one_still_accepted(tmp_path: Path) -> None:
    old, new = "o" * 32, "n" * 32
    token = run("token", STILLROOM_JWT_SECRET=old).stdout.strip()

    with running(tmp_path, jwt_secret=new, jwt_previous_secrets=old) as server:
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(server.images, headers=headers).status_code == 200
        assert not (server.data / ".stillroom/secret").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["serve"], {"STILLROOM_PORT": "99999"}, "STILLROOM_PORT"),
        (["serve"], {"STILLROOM_WORKERS": "none"}, "STILLROOM_WORKERS"),
        (["serve"], {"STILLROOM_JWT_SECRET": "short"}, "32 bytes"),
        (["serve"], {"STILLROOM_PUBLIC_BASE_URL": "ftp://x"}, "STILLROOM_PUBLIC_BASE_URL"),
        (["serve", "--data-dir", "/proc/nothing"], {}, "STILLROOM_DATA_DIR"),
        (["serve", "--host", "203.0.113.1"], {}, "--host"),
        (["token", "--expires", "soon"], {}, "30d"),
        (["token", "--scope", "all"], {}, "storage:read"),
        (["token", "--prefix", "../x"], {"STILLROOM_JWT_SECRET": "x" * 32}, "segment"),
    ],
)
def test_what_cannot_work_stops_with_a_sentence_that_says_what_to_do(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], says: str
) -> None:
    defaults = {"STILLROOM_DATA_DIR": str(tmp_path / "d"), "STILLROOM_PORT": str(free_port())}

    result = run(*arguments, **{**defaults, **environment})

    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        result = run("serve", "--port", str(server.port), "--data-dir", str(tmp_path / "other"))
        assert result.returncode == 2
        said = f"cannot listen on 127.0.0.1 port {server.port} (Address already in use): stop "
        assert (
            result.stderr == f"stillroom: {said}the program that does, or choose another port "
            "with --port\n"
        )


def test_the_log_level_says_which_lines_are_logged(tmp_path: Path) -> None:
    with running(tmp_path, log_level="WARNING") as quiet:
        assert " INFO " not in quiet.logged()
    with running(tmp_path, log_level="warning", access_log="true") as server:
        httpx.get(server.images)
        until(lambda: f"GET {IMAGES} 401" in server.logged())
        assert "storage: " not in server.logged()
    refused = run("serve", STILLROOM_LOG_LEVEL="loud", STILLROOM_DATA_DIR=str(tmp_path / "data"))
    assert refused.stderr == (
        "stillroom: STILLROOM_LOG_LEVEL must be 'debug', 'info', 'warning' or 'error'\n"
    )


def test_public_urls_come_from_the_configuration(tmp_path: Path) -> None:
    with running(tmp_path, public_base_url="https://img.example.com/x/") as server:
        with server.client() as client:
            saved = client.post(f"{IMAGES}/a b.png", files={"file": b"x"})
        assert saved.json()["url"] == f"https://img.example.com/x{IMAGES}/a%20b.png"


def test_only_images_are_taken_where_images_are_required(tmp_path: Path) -> None:
    with running(tmp_path, require_image="true") as server, server.client() as client:
        assert client.post(f"{IMAGES}/a.png", files={"file": b"text"}).status_code == 415
        png = b"\x89PNG\r\n\x1a\n"
        assert client.post(f"{IMAGES}/a.png", files={"file": png}).status_code == 200


def test_507_below_the_floor_of_free_room(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.stop()
    started = subprocess.Popen(
        [STILLROOM, "serve"],
        env={**server.environment, "STILLROOM_MIN_FREE_BYTES": str(2**60)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ready = until(lambda: httpx.get(f"{server.url}/readyz"), despite=httpx.TransportError)
        assert ready.status_code == 503
        assert "STILLROOM_MIN_FREE_BYTES" in ready.json()["detail"]
        with server.client() as client:
            answer = client.post(f"{IMAGES}/a.png", files={"file": b"x"})
            assert answer.status_code == 507
            assert client.get(IMAGES).json() == []
    finally:
        started.terminate()
        assert started.wait(60) == 0


@pytest.mark.whole
def test_two_workers_share_secret_images_and_locks(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--workers", "2", program=STILLROOM) as server,
        server.client() as client,
    ):
        assert len(server.children()) == 2

        def create(number: int) -> int:
            with httpx.Client(headers=dict(client.headers)) as another:
                return another.post(
                    f"{server.images}/race.png",
                    files={"file": b"%d" % number},
                    headers={"If-None-Match": "*"},
                ).status_code

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(create, range(64)))
        assert sorted(statuses) == [200] + [412] * 63


def test_a_worker_that_is_killed_is_replaced_and_what_it_acknowledged_is_there(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--workers", "2") as server, server.client() as client:
        victim = server.children()[0]
        client.post(f"{IMAGES}/a.png", files={"file": b"x"})

        os.kill(victim, signal.SIGKILL)

        until(lambda: len([pid for pid in server.children() if pid != victim]) >= 2)
        wait_until_ready(server)
        for _ in range(10):
            with server.client() as another:
                assert another.get(f"{IMAGES}/a.png").content == b"x"


def has_logged(server: Server, words: str) -> bool:
    return words in server.logged()


@pytest.mark.whole
def test_a_worker_that_dies_again_and_again_is_replaced_later_each_time(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as server:
        stays, *_ = server.children()
        for expected in ("at once", "in 1 s", "in 2 s"):
            others = until(
                lambda: [pid for pid in server.children() if pid != stays], said=server.logged
            )
            os.kill(others[0], signal.SIGBUS)
            until(partial(has_logged, server, f"starting another one {expected}"))
        said = [line for line in server.logged().splitlines() if "starting another one" in line]
        assert len(said) == 3, said
        assert all(" ERROR worker " in line and "SIGBUS" in line for line in said), said
        with server.client() as client:
            client.post(f"{IMAGES}/a.png", files={"file": b"x"}).raise_for_status()
        assert server.stop() == 0


@pytest.mark.whole
def test_a_worker_that_cannot_start_ends_the_server_and_says_why(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as server:
        aside = server.data.rename(tmp_path / "aside")
        server.data.touch()  # no folder
        os.kill(server.children()[0], signal.SIGKILL)
        until(lambda: server.process.poll() is not None)
        assert server.process.returncode == 3
        assert "STILLROOM_DATA_DIR" in server.logged()
        server.data.unlink()
        aside.rename(server.data)


def test_workers_end_with_their_supervisor_however_that_ended(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as server:
        workers = server.children()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.whole
def test_a_stop_ends_all_processes(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as server:
        workers = server.children()
        assert server.stop() == 0
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_single_worker_ends_with_its_terminal(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        worker = server.pid
        for pid in (server.process.pid, worker):
            os.kill(pid, signal.SIGHUP)
        assert server.process.wait(60) == 0
        assert not Path(f"/proc/{worker}").exists()
