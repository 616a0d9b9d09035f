"""Starting the server: check, bind, then one process or several."""

import asyncio
import contextlib
import ctypes
import functools
import logging
import logging.config
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from stillroom import __version__
from stillroom.api import metrics
from stillroom.app import check_settings, create_app
from stillroom.errors import ConfigurationError
from stillroom.server.allocator import keep_freed_memory, never_look_again
from stillroom.server.bounds import Bounds
from stillroom.server.logs import log_config
from stillroom.server.notify import READY, STOPPING, notify
from stillroom.server.protocol import StillroomProtocol
from stillroom.server.short_road.protocol import ShortRoadProtocol
from stillroom.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

_BACKLOG = 2048
_PR_SET_PDEATHSIG = 1
_JOIN_POLL_S = 0.05

log = logging.getLogger("stillroom.server")


def serve(settings: Settings) -> None:
    """Serve until a signal says stop.

    Raises:
        ConfigurationError: it cannot start; one sentence says why and what to do.
    """
    logs = log_config(settings.log_format, access_log=settings.access_log)
    logging.config.dictConfig(logs)
    listener = _bind(settings)
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    checked = check_settings(settings)
    for line in checked.facts:
        log.info("%s", line)
    for line in checked.warnings:
        log.warning("%s", line)
    log.info("Stillroom %s serves http://%s:%d (see /docs)", __version__, settings.host, port)
    if settings.gallery:
        log.info("Gallery: http://%s:%d/", settings.host, port)
    _raise_descriptor_limit()
    # uvicorn raises the signal that stopped it again when it is done, which would end this
    # process before it has cleaned up, and with the status of a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    bounds = _bounds(settings)
    protocol = ShortRoadProtocol if settings.short_road else StillroomProtocol
    with tempfile.TemporaryDirectory(prefix="stillroom-metrics-") as shared:
        if settings.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        config = uvicorn.Config(
            functools.partial(_create_app_or_exit, settings, os.getpid()),
            factory=True,
            workers=settings.workers,
            http=functools.partial(protocol, bounds=bounds),  # type: ignore[arg-type]  # as good as the class
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=logs,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=bounds.idle_timeout_s,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
        if settings.workers > 1:
            supervisor = _Supervisor(config, sockets=[listener])
            supervisor.run()
            if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
                sys.exit(STARTUP_FAILURE)
        else:
            _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """One process. A second signal ends it without waiting for answers under way."""

    def handle_exit(self, sig: int, frame: "FrameType | None") -> None:
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            notify(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify(STOPPING)
        await super().shutdown(sockets)
        metrics.hand_on()
        if self.force_exit:  # uvicorn would leave what runs, and the storage, to the interpreter
            tasks = list(self.server_state.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.lifespan.shutdown()


class _Supervisor(Multiprocess):
    """Several processes. A second signal ends them without waiting for answers under way."""

    _said_ready = False

    def keep_subprocess_alive(self) -> None:
        with self._replacing():
            super().keep_subprocess_alive()
        if not self._said_ready and all(worker.is_ready() for worker in self.processes):
            self._said_ready = True
            notify(READY)

    def terminate_all(self) -> None:
        notify(STOPPING)
        for listener in self.sockets:
            listener.close()  # else the kernel goes on accepting for nobody
        super().terminate_all()

    def restart_all(self) -> None:
        with self._replacing():
            super().restart_all()

    @contextlib.contextmanager
    def _replacing(self) -> Iterator[None]:
        """Forget what a worker that is gone had open and under way; what it has done stays."""
        before = {worker.pid for worker in self.processes}
        yield
        for pid in before - {worker.pid for worker in self.processes}:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library types it not

    def join_all(self) -> None:
        while any(worker.process.is_alive() for worker in self.processes):
            if self.signal_queue:
                for worker in self.processes:
                    worker.kill()
                break
            time.sleep(_JOIN_POLL_S)  # signals wake it; the workers have no common event
        super().join_all()


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        head_bytes=settings.max_head_bytes,
        header_fields=settings.max_header_fields,
        target_bytes=settings.max_target_bytes,
        head_timeout_s=settings.head_timeout_seconds,
        body_bytes_per_s=settings.min_body_bytes_per_second,
        idle_timeout_s=settings.idle_timeout_seconds,
        write_timeout_s=settings.write_timeout_seconds,
        connections=settings.max_connections,
    )


def _create_app_or_exit(settings: Settings, starter: int) -> "FastAPI":
    """The application; a worker that cannot have one must not be started again and again."""
    if os.getpid() != starter:
        _end_with(starter)
    keep_freed_memory()
    try:
        app = create_app(settings)
    except ConfigurationError as error:
        log.critical("%s", error)
        sys.exit(STARTUP_FAILURE)
    never_look_again()
    return app


def _end_with(parent: int) -> None:
    """Ask the kernel to stop this worker when its supervisor is gone, however that ended.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)  # it was gone before the kernel knew


def _bind(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): "
            "choose others with --host and --port"
        ) from error
    listener.set_inheritable(True)
    return listener


def _raise_descriptor_limit() -> None:
    """Each connection and each image being sent takes one; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
