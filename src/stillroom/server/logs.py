"""Log lines: for people on a console, or as JSON for machines.

What clients send stands in them only escaped: no control character gets through.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def escaped(text: str) -> str:
    """Text without characters that could begin another line or steer a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class ConsoleFormatter(logging.Formatter):
    """`2026-11-24T15:00:00Z INFO message`, a traceback below it if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        line = f"{_moment(record)} {record.levelname} {escaped(record.getMessage())}"
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        fields = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_config(form: Literal["console", "json"], *, access_log: bool) -> dict[str, Any]:
    """A configuration for `logging.config.dictConfig`, in this process and in every worker."""
    formatter = ConsoleFormatter if form == "console" else JsonFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": f"{formatter.__module__}.{formatter.__qualname__}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "stillroom": {"level": "INFO"},
            "stillroom.access": {"level": "INFO" if access_log else "WARNING"},
            # It warns of each malformed request; the numbers at /metrics count them.
            "uvicorn": {"level": "ERROR"},
        },
    }


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
