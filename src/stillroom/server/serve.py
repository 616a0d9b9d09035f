"""Starting the server: check, bind, then one process or several."""

import functools
import logging
import logging.config
import os
import resource
import signal
import socket
import sys
import tempfile
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from stillroom import __version__
from stillroom.app import check_settings, create_app
from stillroom.errors import ConfigurationError
from stillroom.server.logs import log_config
from stillroom.server.protocol import StillroomProtocol
from stillroom.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

KEEP_ALIVE_S = 65
"""Longer than the 60 s of most proxies, so that they close idle connections, not we."""

DRAIN_S = 30
"""How long a stop waits for answers under way."""

_BACKLOG = 2048

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
    for line in check_settings(settings):
        log.info("%s", line)
    log.info("Stillroom %s serves http://%s:%d (see /docs)", __version__, settings.host, port)
    _raise_descriptor_limit()
    # uvicorn raises the signal that stopped it again when it is done, which would end this
    # process before it has cleaned up, and with the status of a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))

    with tempfile.TemporaryDirectory(prefix="stillroom-metrics-") as shared:
        if settings.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        config = uvicorn.Config(
            functools.partial(_create_app_or_exit, settings),
            factory=True,
            workers=settings.workers,
            http=StillroomProtocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=logs,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
        if settings.workers > 1:
            Multiprocess(config, sockets=[listener]).run()
        else:
            uvicorn.Server(config).run(sockets=[listener])


def _create_app_or_exit(settings: Settings) -> "FastAPI":
    """The application; a worker that cannot have one must not be started again and again."""
    try:
        return create_app(settings)
    except ConfigurationError as error:
        log.critical("%s", error)
        sys.exit(STARTUP_FAILURE)


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
