"""Log formats (console and JSON) and the access log. Each line contains its request id, if any."""

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
    """Return the text with escapes for characters that end a line or control a terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class ConsoleFormatter(logging.Formatter):
    """Text format: `2026-11-24T15:00:00Z INFO message`, and the traceback on indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as text."""
        line = f"{_timestamp(record)} {record.levelname} {escape(record.getMessage())}"
        if id_ := _request_id_of(record):
            line += f" request_id={id_}"
        if record.exc_info:
            for trace_line in self.formatException(record.exc_info).split("\n"):
                line += f"\n    {escape(trace_line)}"
        return line


class JsonFormatter(logging.Formatter):
    """JSON format: one object per line, with the entries of a logged mapping as fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as JSON."""
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
        return json.dumps(fields, default=str)


def log_config(form: Literal["console", "json"], *, level: str, access_log: bool) -> dict[str, Any]:
    """Return the configuration for `dictConfig`. `level` does not affect the access log."""
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

    `path` has no query, which may contain a signature. `began` is a time of `time.perf_counter`.
    `received` and `sent` are numbers of body bytes.
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


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
