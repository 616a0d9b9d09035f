"""SIGKILL while webhooks are delivered: the receiver gets every acknowledged save.

After most kills, the leases of the killed processes are ended in the database, as if a minute had
passed. After every fifth one, the next process waits for their real end. In every tenth round, one
of two workers is killed before the whole server is.
"""

import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import sqlalchemy as sa

from crash.rounds import Round, kill_a_worker
from crash.webhook_receiver import SECRET, WebhookReceiver, receiving
from running import IMAGES, Server, running
from services.postgres import postgresql
from services.s3 import Operator
from services.seaweedfs import bucket_variables, seaweedfs
from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.tables import scans
from stillroom.features.events.webhook_tables import endpoints
from waiting import until

SETTINGS: Final = ("disk-sqlite", "disk-postgresql", "bucket-sqlite", "bucket-postgresql")
_CLIENTS: Final = 4
_PAUSE_S: Final = 0.02
"""Pause of a client after each save, since the test is not about the number of saves."""


@dataclass
class Setting:
    """Services of a server: variables for its start, and its database."""

    database_url: str = ""
    bucket: dict[str, str] = field(default_factory=dict)

    def rows(self, data: Path) -> RowsConfig:
        if self.database_url:
            return PostgresConfig(self.database_url)
        return SqliteConfig(data / ".stillroom/library.db")


@contextlib.contextmanager
def services_of(folder: Path, setting: str) -> Iterator[Setting]:
    storage, database = setting.split("-")
    found = Setting()
    with contextlib.ExitStack() as stack:
        if storage == "bucket":
            (folder / "seaweedfs").mkdir()
            seaweed = stack.enter_context(seaweedfs(folder / "seaweedfs"))
            Operator(seaweed.endpoint_url).make_bucket()
            found.bucket = bucket_variables(seaweed)
        if database == "postgresql":
            found.database_url = stack.enter_context(postgresql()).make_database()
        yield found


@dataclass
class Saving:
    """Clients that save new images, and each replaces one of its own again and again.

    Attributes:
        acknowledged: Time and SHA-256 of the newest acknowledged save of each path.
        sent: SHA-256 of all saves of each path, also of those without a response, in order.
    """

    acknowledged: dict[str, tuple[float, str]] = field(default_factory=dict)
    sent: dict[str, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    saves: int = 0

    def start(self, server: Server, number: int) -> None:
        server.token()  # a dying server's data directory has none to give
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(server, f"{number}/{client}", client))
            for client in range(_CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, server: Server, folder: str, client_number: int) -> None:
        number = 0
        with server.client() as client:
            while not self._stopped.wait(_PAUSE_S):
                number += 1
                path = f"replaced/{client_number}.bin" if number % 4 == 0 else f"{number}.bin"
                path = path if number % 4 == 0 else f"{folder}/{path}"
                try:
                    self._save(client, path, f"{folder} {number}".encode())
                except httpx.TransportError:
                    return  # the server was killed
                except httpx.HTTPStatusError as error:
                    self.broken.append(f"{path}: {error.response.status_code}")

    def _save(self, client: httpx.Client, path: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.sent.setdefault(path, []).append(digest)
        answer = client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()
        assert answer.json()["sha256"] == digest
        self.acknowledged[path] = time.monotonic(), digest
        self.saves += 1


class WebhookKills:
    """Kills of one store and its server."""

    def __init__(self, folder: Path, setting: str, *, seed: int) -> None:
        self._folder, self._setting = folder / setting, setting
        self._folder.mkdir(parents=True)
        self._chance = random.Random(f"{seed}-{setting}")
        self._kills: list[tuple[float, bool]] = []
        self._minted: dict[tuple[str, ...], str] = {}
        self.saving = Saving()
        self.receiver = WebhookReceiver()

    def rounds(self, count: int) -> Iterator[Round]:
        with services_of(self._folder, self._setting) as setting, receiving() as self.receiver:
            webhooks = self._configure()
            before = 0
            with contextlib.ExitStack() as stack:
                for number in range(count):
                    workers = 2 if _kills_a_worker(number) else 1
                    server = stack.enter_context(self._started(setting, webhooks, workers))
                    self._round(server, number, setting)
                    if number < count - 1:
                        yield Round(self.saving.saves - before, [])
                        before = self.saving.saves
                server = stack.enter_context(self._started(setting, webhooks))
                yield Round(self.saving.saves - before, self._violations(server))

    def _configure(self) -> Path:
        secret, webhooks = self._folder / "backend.secret", self._folder / "webhooks.toml"
        secret.touch(0o600)
        secret.write_text(SECRET)
        webhooks.write_text(
            f'[[endpoint]]\nname = "backend"\nurl = "{self.receiver.url}"\n'
            'secret_file = "backend.secret"\ntypes = ["image.saved"]\n'
        )
        return webhooks

    @contextlib.contextmanager
    def _started(self, setting: Setting, webhooks: Path, workers: int = 1) -> Iterator[Server]:
        bucket = [f"{name}={value}" for name, value in setting.bucket.items()]
        starting = running(
            self._folder,
            "--workers",
            f"{workers}",
            under=" ".join(["env", *bucket]),
            webhooks_file=str(webhooks),
            database_url=setting.database_url,
        )
        with starting as server:
            server.minted = self._minted
            yield server

    def _round(self, server: Server, number: int, setting: Setting) -> None:
        """Save and kill. A worker that is killed is replaced; then the others are stopped."""
        waits = number == 0 or number % 5 == 4 or self._chance.random() < 0.7
        if waits:
            self._wait_for_all(server)
        so_far = self.saving.saves
        self.saving.start(server, number)
        until(
            lambda: self.saving.saves >= so_far + 10, said=server.logged,
            as_long_as=lambda: self.saving.is_running,
        )  # fmt: skip
        if waits:  # so that deliveries of this round are under way
            until(lambda: self._arrived_of(number), by=server.process, said=server.logged)
        time.sleep(self._chance.uniform(0, 0.5))  # the moment is the experiment
        if _kills_a_worker(number):
            self._note_kill(is_real=True)
            kill_a_worker(server, self._chance)
            self.saving.join()
            self._wait_for_all(server)
        server.kill()
        self._note_kill(is_real=number % 5 == 4)
        self.saving.join()
        if number % 5 != 4:
            end_leases(setting.rows(server.data))

    def _note_kill(self, *, is_real: bool) -> None:
        self._kills.append((time.monotonic(), is_real))

    def _arrived_of(self, number: int) -> bool:
        return any(path.startswith(f"{number}/") for path in self.receiver.events.copy())

    def _arrival(self, path: str, digest: str) -> float | None:
        """Return when a save arrived, or a later one of the path, which may have no response."""
        sent = self.saving.sent[path]
        later = sent[sent.index(digest) :]
        times = [self.receiver.arrived.get((path, one)) for one in later]
        return next((moment for moment in times if moment is not None), None)

    def missing(self) -> list[str]:
        acknowledged = self.saving.acknowledged.copy().items()
        return [path for path, (_, digest) in acknowledged if self._arrival(path, digest) is None]

    def _wait_for_all(self, server: Server) -> None:
        until(
            lambda: not self.missing(), by=server.process,
            said=lambda: f"{self.missing()}\n{server.logged()}",
        )  # fmt: skip

    def _violations(self, server: Server) -> list[str]:
        self._wait_for_all(server)
        found = [*self.saving.broken]
        if self.receiver.unverified:
            found.append(f"{self.receiver.unverified} requests without a valid signature")
        for path, events in self.receiver.events.copy().items():
            sent = self.saving.sent.get(path, [])
            digests = [event["data"]["sha256"] for event in events]
            if not {*digests} <= {*sent}:
                found.append(f"{path}: an event about other bytes than those that were sent")
            elif (order := [sent.index(digest) for digest in digests]) != sorted(set(order)):
                found.append(f"{path}: its events arrived in the order {order}")
        return found

    def figures(self) -> str:
        """Return a line for people, after the last round."""
        events = [event for some in self.receiver.events.values() for event in some]
        ended, real = self._delays()
        return (
            f"{len(self._kills)} SIGKILLs, {self.saving.saves:,} acknowledged saves, "
            f"{len(self.missing())} lost, {len(events):,} events "
            f"({sum(event['found'] for event in events)} found by comparing), "
            f"{self.receiver.repeated} delivered again, {self.receiver.refused} refused at first; "
            f"longest delay after a kill: {real:.1f} s, {ended:.1f} s if leases were ended"
        )

    def _delays(self) -> tuple[float, float]:
        """Return the longest time from a kill to the arrival of a save from before the kill."""
        longest = {False: 0.0, True: 0.0}
        for path, (acknowledged, digest) in self.saving.acknowledged.items():
            arrived = self._arrival(path, digest) or 0.0
            between = [kill for kill in self._kills if acknowledged <= kill[0] <= arrived]
            if between:
                moment, is_real = between[-1]
                longest[is_real] = max(longest[is_real], arrived - moment)
        return longest[False], longest[True]


def _kills_a_worker(number: int) -> bool:
    return number % 10 == 4


def end_leases(config: RowsConfig) -> None:
    """Let the leases of killed processes expire, as if their time had passed."""
    with migrating(config) as connection:
        for table in (endpoints, scans):
            expired = sa.update(table).where(table.c.lease_until.is_not(None))
            connection.execute(expired.values(lease_until=now()))
