"""The dashboard and the alerts of deploy/, asked of a real Prometheus on real servers."""

import contextlib
import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from events.receiving import configure, receiving
from pictures import picture
from running import IMAGES, STILLROOM, Server, free_port, running
from services.process import program
from services.prometheus import RULES, Prometheus, prometheus
from services.proxies import DEPLOY
from waiting import until

pytestmark = pytest.mark.whole  # a Prometheus that asks for a while

DASHBOARD = json.loads((DEPLOY / "grafana/stillroom.json").read_text())
TARGETS = [
    (f"{panel['title']} {target['refId']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
INGEST = "/api/v1/media-resources/ingest"
PURGES = "CLOUDFLARE_ZONE_ID=zone CLOUDFLARE_API_TOKEN=token R2_PURGE_HOSTS=images.example.com"
ALERTS = re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text())


def as_grafana_would(expression: str) -> str:
    for variable, value in (("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "20s")):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@contextlib.contextmanager
def without_its_bucket(folder: Path) -> Iterator[Server]:
    """A server whose bucket is not there; it is never ready."""
    port = free_port()
    with running(folder) as lender:
        environment = lender.environment
    environment = {
        **environment,
        "STILLROOM_PORT": str(port),
        "R2_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "R2_ACCESS_KEY_ID": "id",
        "R2_SECRET_ACCESS_KEY": "secret",
        "R2_BUCKET_NAME": "bucket",
    }
    with (folder / "bucket.log").open("wb") as log:
        process = subprocess.Popen([STILLROOM, "serve"], env=environment, stdout=log, stderr=log)
    try:
        server = Server(process, folder / "data", port, folder / "bucket.log", environment)
        # It listens, though it says that the bucket is not there.
        until(
            lambda: "bucket is out of reach" in server.logged() and answers(server),
            said=server.logged,
        )
        yield server
    finally:
        process.terminate()
        process.wait(60)


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/healthz").status_code == 200
    return False


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """What has happened to two servers: reads, saves, a sweep, webhooks, and failures."""
    folder = tmp_path_factory.mktemp("collected")
    with (
        receiving() as receiver,
        running(
            folder,
            "--workers",
            "2",
            under=f"env {PURGES}",
            sweep_interval_seconds="0.5",
            webhooks_file=str(configure(folder, backend=receiver)),
        ) as server,
        without_its_bucket(tmp_path_factory.mktemp("bucket")) as lame,
        prometheus(folder, server.port, lame.port) as running_one,
    ):
        deadline = time.monotonic() + 240
        with server.client() as client:
            # At one moment: what asks for the last 20 seconds has no value when they are over.
            while missing := missing_at(now := dataclasses.replace(running_one, at=time.time())):
                assert time.monotonic() < deadline, missing
                client.post(f"{IMAGES}/a.png", files={"file": picture(size=(200, 200))})
                client.get(f"{IMAGES}/a.png")
                client.get(f"{IMAGES}/a.png", params={"width": "64"})
                client.head(f"{IMAGES}/a.png")
                client.post(INGEST, json={"storage_key": "compute/a.png", "relocate": False})
                # Five seconds of attempts, each of which is counted.
                assert httpx.get(f"{lame.url}/readyz", timeout=60).status_code == 503
        yield now


def missing_at(moment: Prometheus) -> list[str]:
    """The panels that have no value."""
    return [name for name, expression in TARGETS if not has_value(moment, expression)]


def has_value(running_one: Prometheus, expression: str) -> bool:
    found = running_one.query(as_grafana_would(expression))
    return any(sample["value"][1] != "NaN" for sample in found)


@pytest.mark.parametrize(("name", "expression"), TARGETS)
def test_each_panel_has_a_value(collected: Prometheus, name: str, expression: str) -> None:
    assert has_value(collected, expression), name


def test_the_variables_of_the_dashboard_list_what_there_is(collected: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        metric, label = re.findall(r"label_values\((\w+).*, (\w+)\)", variable["definition"])[0]
        values = collected.ask(f"label/{label}/values", **{"match[]": metric})
        assert values, variable["name"]


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_asks_for_numbers_that_there_are(collected: Prometheus, alert: str) -> None:
    (rule,) = [
        rule
        for group in collected.ask("rules")["groups"]
        for rule in group["rules"]
        if rule["name"] == alert
    ]
    assert rule["health"] == "ok"
    names = set(re.findall(r"\b(?:stillroom_\w+|up)\b", rule["query"]))
    assert names
    assert names <= {*collected.ask("label/__name__/values")}


def test_each_alert_is_raised_when_it_should_be_and_not_else() -> None:
    tests = Path(__file__).parent / "alerts_test.yml"
    ran = subprocess.run(
        [program("promtool", "prometheus"), "test", "rules", tests],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    raised = set(re.findall(r"alertname: (\w+)\n", tests.read_text()))
    assert raised == set(ALERTS)


def test_every_panel_says_what_it_measures_in() -> None:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
