"""A real Prometheus with the files of deploy/, collecting every second."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.ports import free_ports
from services.process import answers, program, started
from services.proxies import DEPLOY, changed

RULES = DEPLOY / "prometheus"


def binary(name: str) -> str:
    return program(name, "prometheus")


@dataclass(frozen=True)
class Prometheus:
    """A running one; `at` is the moment of all queries, in seconds since 1970, if it is fixed."""

    url: str
    at: float | None = None

    def ask(self, what: str, **parameters: str) -> Any:
        """What its API answers (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[Any]:
        moment = {} if self.at is None else {"time": str(self.at)}
        found: list[Any] = self.ask("query", query=expression, **moment)["result"]
        return found


@contextlib.contextmanager
def prometheus(folder: Path, *targets: int) -> Iterator[Prometheus]:
    (port,) = free_ports(1)
    changes = {
        "scrape_interval: 15s": "scrape_interval: 1s",
        "  scrape_interval": "  evaluation_interval: 1s\n  scrape_interval",
        '"127.0.0.1:8000"': ", ".join(f'"127.0.0.1:{target}"' for target in targets),
    }
    config = folder / "prometheus.yml"
    config.write_text(changed((RULES / "prometheus.yml").read_text(), changes))
    shutil.copy(RULES / "alerts.yml", folder)
    url = f"http://127.0.0.1:{port}"
    command = [
        binary("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with started(command, folder / "prometheus.log", answers(f"{url}/-/ready")):
        yield Prometheus(url)
