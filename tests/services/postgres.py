"""A real PostgreSQL, syncs and all: Debian's, on a folder of its own, as a user of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from services.ports import free_ports
from services.process import signal_all, with_children
from waiting import until


@dataclass
class PostgreSQL:
    """A running server. Everybody on this machine may do everything in it."""

    folder: Path
    binaries: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def make_database(self, name: str = "") -> str:
        """A new, empty one; its URL."""
        name = name or f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def empty_database(self, url: str) -> None:
        """End its sessions and drop all that is in it, in a tenth of the time of a new one."""
        with self._alone(url) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def empty_tables(self, url: str, tables: Iterable[str]) -> None:
        """End its sessions and delete all rows, table by table: a third of making tables anew."""
        with self._alone(url) as connection, connection.transaction():
            for table in tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))

    @contextlib.contextmanager
    def _alone(self, url: str) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            yield connection

    def drop_database(self, url: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *_as_postgres(),
                    self.binaries / "postgres",
                    *("-D", self.folder / "data", "-p", f"{self.port}", "-k", ""),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=on"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until(
            self._answers,
            despite=psycopg.OperationalError,
            by=self.process,
            said=(self.folder / "log").read_text,
        )

    def _answers(self) -> bool:
        psycopg.connect(self.url()).close()
        return True

    def stop(self) -> None:
        """At once, as a crash would be."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Connections stay open and are accepted; nothing is ever answered."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)  # first, so that no more of the others come
        all_of_them = with_children(self.process.pid)
        signal_all(all_of_them, signal.SIGSTOP)  # a session ends when its client has gone
        try:
            yield
        finally:
            signal_all(reversed(all_of_them), signal.SIGCONT)


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a server that keeps its data in a folder that only its own user can read."""
    binaries = _binaries()
    # Not below pytest's folders: those are root's alone.
    folder = Path(tempfile.mkdtemp(prefix="stillroom-postgresql-"))
    try:
        if _as_postgres():
            shutil.chown(folder, "postgres", "postgres")
        made = subprocess.run(
            [
                *_as_postgres(),
                binaries / "initdb",
                *("-D", folder / "data", "-U", "postgres", "-A", "trust"),
                *("--no-locale", "-E", "UTF8", "--data-checksums"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr
        (port,) = free_ports(1)
        server = PostgreSQL(folder, binaries, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path:
    """The newest that is here; Debian keeps several beside each other, and none on the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    assert found or on_path, "PostgreSQL is missing: apt-get install postgresql-17"
    return found[-1].parent if found else Path(str(on_path)).parent


def _as_postgres() -> list[str]:
    """It refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
