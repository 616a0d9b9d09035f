"""Start of the server: check the settings, bind the socket, and run uvicorn in workers."""

import contextlib
import ctypes
import errno
import functools
import gc
import logging
import logging.config
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from stillroom import __version__
from stillroom.app import check_settings, create_app
from stillroom.errors import ConfigurationError
from stillroom.server import allocator
from stillroom.server.descriptors import limit_connections
from stillroom.server.supervisor import Supervisor
from stillroom.speed.connections import ConnectionFactory
from stillroom.speed.settings import SpeedSettings
from stillroom.store.settings import Settings
from stillroom.store.telemetry.logging import log_config

if TYPE_CHECKING:
    from fastapi import FastAPI

_BACKLOG = 2048
_PR_SET_PDEATHSIG = 1
_SWITCH_S = 0.001
"""Seconds after which a thread must release the GIL (`sys.setswitchinterval`). Python's default is
five times as long, and a response may wait for several intervals."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared, not bound)

log = logging.getLogger("stillroom.server")


def serve(settings: Settings, *, sign_in_link: bool = False) -> None:
    """Run the server until a signal stops it. Raise `ConfigurationError` if it cannot start."""
    logs = log_config(settings.log_format, level=settings.log_level, access_log=settings.access_log)
    logging.config.dictConfig(logs)
    listener = _bind(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    _log_start(settings)
    if sign_in_link and _has_gallery(settings) and settings.jwt_algorithm == "HS256":
        _print_sign_in_link(settings)
    speed = limit_connections(settings.section(SpeedSettings))
    with _shared_metrics() if settings.workers > 1 else contextlib.nullcontext():
        config = uvicorn.Config(
            functools.partial(_create_app_or_exit, settings, os.getpid()),
            factory=True,
            workers=settings.workers,
            http=ConnectionFactory(speed),  # type: ignore[arg-type]  # uvicorn only calls it
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=logs,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=speed.idle_timeout_seconds,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
        allocator.freeze_startup_objects()  # a forked worker shares their memory
        supervisor = Supervisor(config, sockets=[listener], hang_s=settings.hang_seconds)
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            sys.exit(STARTUP_FAILURE)


def _log_start(settings: Settings) -> None:
    lines, warnings = check_settings(settings)
    for line in lines:
        log.info("%s", line)
    for line in warnings:
        log.warning("%s", line)
    host, port = settings.host, settings.port
    log.info("Stillroom %s serves http://%s:%d (see /docs)", __version__, host, port)
    if _has_gallery(settings):
        log.info("Gallery: http://%s:%d/", host, port)


def _has_gallery(settings: Settings) -> bool:
    return bool(getattr(settings, "gallery", False))  # the feature may not be installed


def _print_sign_in_link(settings: Settings) -> None:
    # The link is never logged. Browsers do not send the code to servers, since it is after a `#`.
    from stillroom.features.gallery.settings import GallerySettings
    from stillroom.features.gallery.sign_in_codes import CODE_LIFE, SignInCodes

    folder = settings.section(GallerySettings).sign_in_folder
    try:
        code = SignInCodes(folder).make()
    except OSError as error:
        log.warning("cannot create a sign-in link in %s: %s", folder, error)
        return
    url = settings.public_base_url
    if not url:  # a local URL for browsers on this machine
        host = _LOOPBACK.get(settings.host, settings.host)
        url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    minutes = int(CODE_LIFE.total_seconds() / 60)
    sys.stdout.write(
        f"Sign in (this link works once, for {minutes} minutes): {url}/#sign-in={code}\n"
    )
    sys.stdout.flush()


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """Context manager that creates a temporary folder for the metrics files of all workers."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="stillroom-metrics-")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to any temporary folder ({error.strerror}): free some space, or set "
            "TMPDIR to another folder"
        ) from error
    with folder as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        yield


def _create_app_or_exit(settings: Settings, starter_pid: int) -> "FastAPI":
    if os.getpid() != starter_pid:
        _stop_with_parent(starter_pid)
    gc.disable()  # imports then take a fifth less CPU time
    sys.setswitchinterval(_SWITCH_S)
    allocator.keep_freed_memory()
    try:
        return create_app(settings)
    except ConfigurationError as error:
        log.critical("%s", error)
        sys.exit(STARTUP_FAILURE)


def _stop_with_parent(parent_pid: int) -> None:
    """Make the kernel send SIGTERM to this worker when its supervisor ends for any reason."""
    # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        sys.exit(0)  # the supervisor ended before the call


def _bind(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python adds the address
        remedy = "choose others with --host and --port"
        if error.errno == errno.EADDRINUSE:
            remedy = "stop the program that does, or choose another port with --port"
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port} ({reason}): {remedy}"
        ) from error
    listener.set_inheritable(True)
    return listener
