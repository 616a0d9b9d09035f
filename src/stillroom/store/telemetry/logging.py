"""Log formats (console, JSON) and the access log.

Control characters from clients are escaped. Each line contains the id of its request, if any. The
entries of a mapping that is logged (`log.info("%(status)d", {"status": 200})`) become JSON fields.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from stillroom.store.telemetry import request_id

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

access_log = logging.getLogger("stillroom.access")


def escape(text: str) -> str:
    """Escape characters that could start another line or control a terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class ConsoleFormatter(logging.Formatter):
    """Text format: `2026-11-24T15:00:00Z INFO message`, then an indented traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text."""
        line = f"{_timestamp(record)} {record.levelname} {escape(record.getMessage())}"
        if id_ := _request_id_of(record):
            line += f" request_id={id_}"
        if record.exc_info:
            for trace_line in self.formatException(record.exc_info).split("\n"):
                line += f"\n    {escape(trace_line)}"
        return line


class JsonFormatter(logging.Formatter):
    """JSON format: one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as JSON."""
        fields: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "process": record.process,
        }
        if id_ := _request_id_of(record):
            fields["request_id"] = id_
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if isinstance(record.args, Mapping):
            fields = {**record.args, **fields}
        return json.dumps(fields, default=_as_text)


def log_config(form: Literal["console", "json"], *, level: str, access_log: bool) -> dict[str, Any]:
    """Return a configuration for `dictConfig`. `level` does not affect the access log."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": ConsoleFormatter if form == "console" else JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours"}},
        "root": {"level": "ERROR" if level == "error" else "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "stillroom": {"level": level.upper()},
            "stillroom.access": {"level": "INFO" if access_log else "WARNING"},
            # Otherwise uvicorn logs each malformed request; /metrics counts them.
            "uvicorn": {"level": "ERROR"},
        },
    }


def log_access(
    client: tuple[str, int] | None,
    method: str,
    path: str,
    status: int,
    *,
    operation: str,
    request_id: str,
    began: float,
    received: int = 0,
    sent: int = 0,
) -> None:
    """Write one line of the access log, if it is enabled (STILLROOM_ACCESS_LOG).

    `path` is the path as received, without the query, which may contain a signature. `began` is a
    time of `time.perf_counter`. `received` and `sent` are numbers of body bytes.
    """
    if not access_log.isEnabledFor(logging.INFO):
        return
    access_log.info(
        "%(client)s %(method)s %(path)s %(status)d operation=%(operation)s "
        "received_bytes=%(received_bytes)d sent_bytes=%(sent_bytes)d seconds=%(seconds).6f",
        {
            "client": client[0] if client else "-",
            "method": method,
            "path": path,
            "status": status,
            "operation": operation,
            "received_bytes": received,
            "sent_bytes": sent,
            "seconds": round(time.perf_counter() - began, 6),
            "request_id": request_id,
        },
    )


def _request_id_of(record: logging.LogRecord) -> str:
    if isinstance(record.args, Mapping) and "request_id" in record.args:
        return str(record.args["request_id"])
    return request_id.current.get()


def _as_text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
