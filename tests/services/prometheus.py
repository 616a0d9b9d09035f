"""A real Prometheus with the files of deploy/, collecting every second."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.ports import free_ports
from services.proxies import DEPLOY, changed
from waiting import until

RULES = DEPLOY / "prometheus"


def binary(name: str) -> str:
    """`prometheus` or `promtool`, which come together."""
    found = shutil.which(name)
    assert found, f"{name} is missing: apt-get install prometheus"
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running one.

    Attributes:
        at: The moment that queries are about, in seconds since 1970; None: each one's own.
    """

    url: str
    at: float | None = None

    def ask(self, what: str, **parameters: str) -> Any:
        """What its API answers (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[Any]:
        """What an expression gives at that moment."""
        moment = {} if self.at is None else {"time": str(self.at)}
        found: list[Any] = self.ask("query", query=expression, **moment)["result"]
        return found


@contextlib.contextmanager
def prometheus(folder: Path, *targets: int) -> Iterator[Prometheus]:
    """Run it with `deploy/prometheus`, on servers at these ports."""
    (port,) = free_ports(1)
    changes = {
        "scrape_interval: 15s": "scrape_interval: 1s",
        "  scrape_interval": "  evaluation_interval: 1s\n  scrape_interval",
        '"127.0.0.1:8000"': ", ".join(f'"127.0.0.1:{target}"' for target in targets),
    }
    config = folder / "prometheus.yml"
    config.write_text(changed((RULES / "prometheus.yml").read_text(), changes))
    shutil.copy(RULES / "alerts.yml", folder)
    log = folder / "prometheus.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                binary("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=folder,
        )
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        until(
            lambda: _is_ready(running),
            by=process,
            said=log.read_text,
        )
        yield running
    finally:
        process.terminate()
        process.wait()


def _is_ready(running: Prometheus) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{running.url}/-/ready").status_code == 200
    return False
