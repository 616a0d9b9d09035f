"""Parser for `retention.toml`. Its error messages contain line numbers."""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

from stillroom.durations import TEN_YEARS, parse_duration
from stillroom.errors import ConfigurationError, InvalidInput
from stillroom.features.database.tags import checked_tags
from stillroom.features.retention.rules import COMPUTE_TTL, Rule, Rules
from stillroom.paths import ImagePrefix

_MAX_BYTES: Final = 1024**2
_MAX_RULES: Final = 100
"""Maximum number of rules, because every image is compared with every rule."""

_MAX_RUNS: Final = 10_000

_RULE: Final = re.compile(r"\s*\[\[\s*[\"']?rule[\"']?\s*\]\]")
_LINE: Final = re.compile(r"at line (\d+)")


class _InvalidRule(Exception):
    """Error about the value of a key in a rule, or about the whole rule if the key is empty."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def read_rules(file: Path, *, is_named: bool, compute_ttl: timedelta | None) -> Rules:
    """Read the rules from a file, and add a rule for `compute_ttl` (`STILLROOM_COMPUTE_TTL`).

    `is_named` is True if a setting contains the file's name. The file must then exist.

    Raises:
        ConfigurationError: the file cannot be read or is invalid.
    """
    rules = [] if compute_ttl is None else [Rule(COMPUTE_TTL, "", expire_after=compute_ttl)]
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        if not is_named and isinstance(error, FileNotFoundError | NotADirectoryError):
            return Rules(rules)
        raise _fault(file, None, f"it cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise _fault(file, None, f"it is larger than {_MAX_BYTES} bytes")
    return Rules([*_parse_rules(file, data), *rules])


def _parse_rules(file: Path, data: bytes) -> list[Rule]:
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _fault(file, line, "it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        match = _LINE.search(str(error))
        last = text.count("\n") + 1
        raise _fault(file, int(match[1]) if match else last, f"invalid TOML: {error}") from error
    except RecursionError as error:
        raise _fault(file, None, "invalid TOML: it is nested too deeply") from error
    lines = text.split("\n")
    for name in content:
        if name != "rule":
            raise _fault(file, _line_of(lines, 0, name), f"{name!r} is unknown: use only [[rule]]")
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _fault(file, _line_of(lines, 0, "rule"), "each rule must begin with [[rule]]")
    if len(tables) > _MAX_RULES:
        raise _fault(file, None, f"there are {len(tables)} rules; at most {_MAX_RULES} are allowed")
    starts = [number for number, line in enumerate(lines) if _RULE.match(line)]
    rules = []
    for number, table in enumerate(tables):
        start = starts[number] if number < len(starts) else 0
        try:
            rules.append(_parse_rule(f"rule {number + 1}", table))
        except _InvalidRule as error:
            raise _fault(file, _line_of(lines, start, error.key), str(error)) from None
    return rules


def _parse_rule(name: str, table: Mapping[str, Any]) -> Rule:
    for key in table:
        if key not in _PARSERS:
            keys = ", ".join(_PARSERS)
            raise _InvalidRule(key, f"{name} has the unknown key {key!r}: the keys are {keys}")
    if "prefix" not in table:
        raise _InvalidRule("", f'{name} has no prefix: add it (`prefix = ""` matches all images)')
    values = {key: _parse_value(name, key, value) for key, value in table.items()}
    if values.get("keep"):
        if others := sorted(values.keys() - {"prefix", "keep"}):
            raise _InvalidRule(others[0], f"{name} keeps everything: remove {others[0]}")
    elif not values.keys() & {"expire_after", "keep_last_runs"}:
        raise _InvalidRule("", f"{name} has no effect: add expire_after, keep_last_runs or keep")
    return Rule(name, **values)


def _parse_value(name: str, key: str, value: object) -> Any:  # noqa: ANN401  (the key's type)
    try:
        return _PARSERS[key](value)
    except ValueError as error:
        raise _InvalidRule(key, f"{key} of {name} {error}") from None
    except InvalidInput as error:
        start = "no image's path begins with the prefix" if key == "prefix" else key
        raise _InvalidRule(key, f"{start} of {name}: {error}") from None


def _parse_prefix(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string such as 'previews/'")  # noqa: TRY004  (as all parsers)
    return ImagePrefix.parse(value).text


def _parse_expire_after(value: object) -> timedelta:
    duration = parse_duration(value) if isinstance(value, str) else None
    if _is_count(value):
        duration = timedelta(seconds=min(value, 10**9))
    if not duration or duration > TEN_YEARS:
        raise ValueError(
            "must be a duration such as '90s', '15m', '12h' or '30d', or a number of seconds; ten "
            "years at most"
        )
    return duration


def _parse_keep_last_runs(value: object) -> int:
    if not _is_count(value) or value > _MAX_RUNS:
        raise ValueError(f"must be a number from 1 to {_MAX_RUNS}")
    return value


def _parse_unless_tagged(value: object) -> frozenset[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(tag, str) for tag in texts):
        raise ValueError("must be a tag, or a list of tags")
    return checked_tags(texts, ("unless_tagged",))


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _parse_keep(value: object) -> bool:
    if value is not True:
        raise ValueError("can only be true: to turn it off, remove it")
    return True


_PARSERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "prefix": _parse_prefix,
    "expire_after": _parse_expire_after,
    "keep_last_runs": _parse_keep_last_runs,
    "unless_tagged": _parse_unless_tagged,
    "keep": _parse_keep,
}


def _line_of(lines: list[str], start: int, key: str) -> int:
    """Return the number (from 1) of the first line at or after `start` that begins with a key."""
    begins = re.compile(rf"\s*(?:\[\[?\s*)?[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    matches = (n for n in range(start, len(lines)) if key and begins.match(lines[n]))
    return next(matches, start) + 1


def _fault(file: Path, line: int | None, message: str) -> ConfigurationError:
    where = "" if line is None else f", line {line}"
    return ConfigurationError(f"{str(file)!r}{where}: {message}")
