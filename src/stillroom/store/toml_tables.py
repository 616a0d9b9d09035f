"""Parser for configuration files that contain one array of TOML tables, such as `[[rule]]`."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from stillroom.errors import ConfigurationError, InvalidInput
from stillroom.paths import ImagePrefix

_MAX_BYTES: Final = 1024**2
_LINE: Final = re.compile(r"at line (\d+)")

Parsers = Mapping[str, Callable[[object], Any]]
"""Parsers of the values, by key. For an invalid value, a parser raises ValueError. Its message is
the end of a sentence that begins with the key, such as "must be a string"."""

T = TypeVar("T")


class InvalidTable(Exception):
    """Error about the value of `key` in a table or, if `key` is empty, about the whole table."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def read_file(file: Path, *, is_named: bool) -> bytes | None:
    """Return the content of a configuration file, or None if it does not exist.

    With `is_named`, a setting names the file, and a missing file raises `ConfigurationError`.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        if not is_named and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        raise _fault(file, None, f"it cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise _fault(file, None, f"it is larger than {_MAX_BYTES} bytes")
    return data


def parse_tables(
    file: Path,
    data: bytes,
    kind: str,
    parsers: Parsers,
    build: Callable[[str, dict[str, Any]], T],
    *,
    most: int,
) -> list[T]:
    """Parse the tables `[[kind]]` of a file, and return what `build` returns for each table.

    The arguments of `build` are a name such as `rule 2` and the parsed values. It may raise
    `InvalidTable`. Raises `ConfigurationError` if the file is invalid or has too many tables.
    """
    text, content = _load(file, data)
    lines = text.split("\n")
    for name in content:
        if name != kind:
            line = _line_of(lines, 0, name)
            raise _fault(file, line, f"{name!r} is unknown: use only [[{kind}]]")
    tables = content.get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        line = _line_of(lines, 0, kind)
        raise _fault(file, line, f"each {kind} must begin with [[{kind}]]")
    if len(tables) > most:
        raise _fault(file, None, f"there are {len(tables)} {kind}s; at most {most} are allowed")
    begins = re.compile(rf"\s*\[\[\s*[\"']?{kind}[\"']?\s*\]\]")
    starts = [number for number, line in enumerate(lines) if begins.match(line)]
    parsed = []
    for number, table in enumerate(tables):
        title, start = f"{kind} {number + 1}", starts[number] if number < len(starts) else 0
        try:
            values = {key: _parse_value(title, key, table[key], parsers) for key in table}
            parsed.append(build(title, values))
        except InvalidTable as error:
            raise _fault(file, _line_of(lines, start, error.key), str(error)) from None
    return parsed


def _load(file: Path, data: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        text = data.decode()
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _fault(file, line, "it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        match = _LINE.search(str(error))
        line = int(match[1]) if match else text.count("\n") + 1
        raise _fault(file, line, f"invalid TOML: {error}") from error
    except RecursionError as error:
        raise _fault(file, None, "invalid TOML: it is nested too deeply") from error


def _parse_value(title: str, key: str, value: object, parsers: Parsers) -> Any:  # noqa: ANN401  (the key's type)
    if key not in parsers:
        keys = ", ".join(parsers)
        raise InvalidTable(key, f"{title} has the unknown key {key!r}: the keys are {keys}")
    try:
        return parsers[key](value)
    except ValueError as error:
        raise InvalidTable(key, f"{key} of {title} {error}") from None
    except InvalidInput as error:
        start = "no image's path begins with the prefix" if key == "prefix" else key
        raise InvalidTable(key, f"{start} of {title}: {error}") from None


def parse_prefix(value: object) -> str:
    """Parse the prefix of paths in a table. Raise ValueError or `InvalidInput`."""
    if not isinstance(value, str):
        raise ValueError("must be a string such as 'previews/'")  # noqa: TRY004  (as all parsers)
    return ImagePrefix.parse(value).text


def _line_of(lines: list[str], start: int, key: str) -> int:
    """Return the number (from 1) of the first line at or after `start` that begins with a key."""
    begins = re.compile(rf"\s*(?:\[\[?\s*)?[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    matches = (n for n in range(start, len(lines)) if key and begins.match(lines[n]))
    return next(matches, start) + 1


def _fault(file: Path, line: int | None, message: str) -> ConfigurationError:
    where = "" if line is None else f", line {line}"
    return ConfigurationError(f"{str(file)!r}{where}: {message}")
