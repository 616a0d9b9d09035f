"""Parser for `retention.toml`. Its error messages contain line numbers."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

from stillroom.durations import TEN_YEARS, parse_duration
from stillroom.features.database.tags import checked_tags
from stillroom.features.retention.rules import COMPUTE_TTL, Rule, Rules
from stillroom.store.toml_tables import InvalidTable, Parsers, parse_prefix, parse_tables, read_file

_MAX_RULES: Final = 100  # because every image is compared with every rule
_MAX_RUNS: Final = 10_000


def read_rules(file: Path, *, is_named: bool, compute_ttl: timedelta | None) -> Rules:
    """Read the rules from a file, and add a rule for `compute_ttl` (`STILLROOM_COMPUTE_TTL`).

    If a setting names the file (`is_named`), it must exist. May raise `ConfigurationError`.
    """
    rules = [] if compute_ttl is None else [Rule(COMPUTE_TTL, "", expire_after=compute_ttl)]
    data = read_file(file, is_named=is_named)
    if data is None:
        return Rules(rules)
    parsed = parse_tables(file, data, "rule", _PARSERS, _build_rule, most=_MAX_RULES)
    return Rules([*parsed, *rules])


def _build_rule(name: str, values: dict[str, Any]) -> Rule:
    if "prefix" not in values:
        raise InvalidTable("", f'{name} has no prefix: add it (`prefix = ""` matches all images)')
    if values.get("keep"):
        if others := sorted(values.keys() - {"prefix", "keep"}):
            raise InvalidTable(others[0], f"{name} keeps everything: remove {others[0]}")
    elif not values.keys() & {"expire_after", "keep_last_runs"}:
        raise InvalidTable("", f"{name} has no effect: add expire_after, keep_last_runs or keep")
    return Rule(name, **values)


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


_PARSERS: Final[Parsers] = {
    "prefix": parse_prefix,
    "expire_after": _parse_expire_after,
    "keep_last_runs": _parse_keep_last_runs,
    "unless_tagged": _parse_unless_tagged,
    "keep": _parse_keep,
}
