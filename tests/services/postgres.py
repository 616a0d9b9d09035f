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
from services.process import paused, spawn, with_children
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
        log = self.folder / "log"
        command = [
            *_as_postgres(), self.binaries / "postgres", "-D", self.folder / "data",
            "-p", f"{self.port}", "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=on",
        ]  # fmt: skip
        self.process = spawn(command, log, cwd=self.folder)
        answers, not_yet = self._answers, psycopg.OperationalError
        until(answers, despite=not_yet, by=self.process, said=log.read_text)

    def _answers(self) -> bool:
        psycopg.connect(self.url()).close()
        return True

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        assert self.process is not None
        # The first one first, so that no more of the others come; a session ends with its client.
        os.kill(self.process.pid, signal.SIGSTOP)
        with paused(with_children(self.process.pid)):
            yield


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    binaries = _binaries()
    # Not below pytest's folders: those are root's alone.
    folder = Path(tempfile.mkdtemp(prefix="stillroom-postgresql-"))
    try:
        if _as_postgres():
            shutil.chown(folder, "postgres", "postgres")
        command = [
            *_as_postgres(), binaries / "initdb", "-D", folder / "data", "-U", "postgres",
            "-A", "trust", "--no-locale", "-E", "UTF8", "--data-checksums",
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
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
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(installed, key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    assert found or on_path, "PostgreSQL is missing: apt-get install postgresql-17"
    return found[-1].parent if found else Path(str(on_path)).parent


def _as_postgres() -> list[str | Path]:
    """It refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
