"""Reading `retention.toml`, and saying which line of it is wrong."""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

from stillroom.durations import TEN_YEARS, parse_duration
from stillroom.errors import ConfigurationError, InvalidInput
from stillroom.media.retention.rules import COMPUTE_TTL, Rule, Rules
from stillroom.media.tags import checked_tags
from stillroom.paths import ImagePrefix

FILE_NAME: Final = "retention.toml"
"""In the data directory, unless `STILLROOM_RETENTION_FILE` names another file."""

_MAX_BYTES: Final = 1024**2
_MAX_RULES: Final = 100
"""Each image is compared with each of them."""

_MAX_RUNS: Final = 10_000

_RULE: Final = re.compile(r"\s*\[\[\s*[\"']?rule[\"']?\s*\]\]")
_LINE: Final = re.compile(r"at line (\d+)")


class _Wrong(Exception):
    """What is wrong with the value of a key; of the whole rule if the key is empty."""

    def __init__(self, key: str, said: str) -> None:
        super().__init__(said)
        self.key = key


def read_rules(file: Path, *, is_named: bool, compute_ttl: timedelta | None) -> Rules:
    """The rules in a file, and the one that `STILLROOM_COMPUTE_TTL` is.

    Args:
        file: Where they are.
        is_named: A setting names it, so that it must be there.
        compute_ttl: How old any compute result becomes; None: no such rule.

    Raises:
        ConfigurationError: it cannot be read, or a line of it is wrong.
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
    return Rules([*_rules_in(file, data), *rules])


def _rules_in(file: Path, data: bytes) -> list[Rule]:
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _fault(file, line, "it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        end = text.count("\n") + 1
        raise _fault(file, int(found[1]) if found else end, f"no TOML: {error}") from error
    except RecursionError as error:
        raise _fault(file, None, "no TOML: it is nested too deeply") from error
    lines = text.split("\n")
    for name in content:
        if name != "rule":
            raise _fault(file, _line_of(lines, 0, name), f"{name!r} is unknown: only [[rule]] is")
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _fault(file, _line_of(lines, 0, "rule"), "each rule begins with [[rule]]")
    if len(tables) > _MAX_RULES:
        raise _fault(file, None, f"there are {len(tables)} rules, at most {_MAX_RULES} are allowed")
    starts = [number for number, line in enumerate(lines) if _RULE.match(line)]
    rules = []
    for number, table in enumerate(tables):
        start = starts[number] if number < len(starts) else 0
        try:
            rules.append(_rule(f"rule {number + 1}", table))
        except _Wrong as wrong:
            raise _fault(file, _line_of(lines, start, wrong.key), str(wrong)) from None
    return rules


def _rule(name: str, table: Mapping[str, Any]) -> Rule:
    for key in table:
        if key not in _READERS:
            known = ", ".join(_READERS)
            raise _Wrong(key, f"{name} has {key!r}, which is unknown: there are {known}")
    if "prefix" not in table:
        raise _Wrong("", f'{name} has no prefix: `prefix = ""` is for all images')
    given = {key: _READERS[key](name, value) for key, value in table.items()}
    if given.get("keep"):
        if others := sorted(given.keys() - {"prefix", "keep"}):
            raise _Wrong(others[0], f"{name} keeps everything, so {others[0]} says nothing")
    elif not given.keys() & {"expire_after", "keep_last_runs"}:
        raise _Wrong("", f"{name} says nothing: it needs expire_after, keep_last_runs or keep")
    return Rule(name, **given)


def _prefix(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("prefix", f"prefix of {name} must be a text such as 'previews/'")
    try:
        return ImagePrefix.parse(value).text
    except InvalidInput as error:
        raise _Wrong(
            "prefix", f"no image's path begins with the prefix of {name}: {error}"
        ) from None


def _duration(name: str, value: object) -> timedelta:
    life = parse_duration(value) if isinstance(value, str) else None
    if _is_count(value):
        life = timedelta(seconds=min(value, 10**9))
    if not life or life > TEN_YEARS:
        raise _Wrong(
            "expire_after",
            f"expire_after of {name} must be a duration such as '90s', '15m', '12h' or '30d', or "
            "a number of seconds; ten years at most",
        )
    return life


def _runs(name: str, value: object) -> int:
    if not _is_count(value) or value > _MAX_RUNS:
        raise _Wrong(
            "keep_last_runs", f"keep_last_runs of {name} must be a number from 1 to {_MAX_RUNS}"
        )
    return value


def _tags(name: str, value: object) -> frozenset[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise _Wrong("unless_tagged", f"unless_tagged of {name} must be a tag, or a list of tags")
    try:
        return checked_tags(texts, ("unless_tagged",))
    except InvalidInput as error:
        raise _Wrong("unless_tagged", f"unless_tagged of {name} is no tag: {error}") from None


def _is_count(value: object) -> TypeGuard[int]:
    """Whether it is a number from 1 on; `true` is one for Python."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _keep(name: str, value: object) -> bool:
    if value is not True:
        raise _Wrong("keep", f"keep of {name} can only be true: leave it out otherwise")
    return True


_READERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "prefix": _prefix,
    "expire_after": _duration,
    "keep_last_runs": _runs,
    "unless_tagged": _tags,
    "keep": _keep,
}


def _line_of(lines: list[str], start: int, key: str) -> int:
    """The line of a key, counted from 1: the first one from `start` on that begins with it."""
    begins = re.compile(rf"\s*(?:\[\[?\s*)?[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    found = (n for n in range(start, len(lines)) if key and begins.match(lines[n]))
    return next(found, start) + 1


def _fault(file: Path, line: int | None, said: str) -> ConfigurationError:
    where = "" if line is None else f", line {line}"
    return ConfigurationError(f"{str(file)!r}{where}: {said}")
