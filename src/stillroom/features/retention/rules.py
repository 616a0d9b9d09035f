"""Retention rules for images and published runs. This module does no I/O.

If several rules match an image, the earliest expiration counts, unless one rule keeps the image.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

FILE_NAME: Final = "retention.toml"  # in the data directory, by default
COMPUTE_TTL: Final = "STILLROOM_COMPUTE_TTL"  # the setting, and the rule that it creates
_LATEST_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Rule:
    """Retention rule from `retention.toml` (docs/retention.md). A limit of None does not apply.

    `name` is, for example, `rule 2`, or the setting from which the rule comes. A rule applies to
    images whose path begins with `prefix`, and to runs whose `folder/` begins with `prefix`.
    """

    name: str
    prefix: str
    expire_after: timedelta | None = None
    keep_last_runs: int | None = None
    unless_tagged: frozenset[str] = frozenset()
    keep: bool = False

    @property
    def after_ns(self) -> int:
        """`expire_after` in nanoseconds, or 0 if it is None."""
        return (self.expire_after or timedelta(0)) // timedelta(microseconds=1) * 1000


@dataclass(frozen=True, slots=True)
class Expiration:
    """Time at which an image or a run expires, and the rule that causes it."""

    at_ns: int
    rule: Rule

    @property
    def at(self) -> datetime:
        """Time in UTC. A file time outside the range of `datetime` is limited to that range."""
        return datetime.fromtimestamp(max(0, min(self.at_ns // 1000 / 1e6, _LATEST_S)), UTC)


@dataclass(frozen=True, slots=True)
class Rules:
    """All retention rules of one store, in file order."""

    rules: Sequence[Rule] = ()

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    @property
    def expire_anything(self) -> bool:
        """True if images or runs can expire under at least one rule."""
        return any(not rule.keep for rule in self.rules)

    @property
    def tags(self) -> frozenset[str]:
        """Tags that at least one rule names in `unless_tagged`."""
        return frozenset().union(*(rule.unless_tagged for rule in self.rules))

    @property
    def digest(self) -> str:
        """Text of 16 characters that changes with the rules."""
        rules = [asdict(rule) | {"unless_tagged": sorted(rule.unless_tagged)} for rule in self]
        return hashlib.sha256(repr(rules).encode()).hexdigest()[:16]

    @property
    def shortest(self) -> timedelta | None:
        """Shortest `expire_after` of all rules, or None if no rule has one."""
        return min((r.expire_after for r in self.rules if r.expire_after is not None), default=None)

    @property
    def prefixes(self) -> Sequence[str]:
        """Prefixes to scan, in key order, without prefixes that a shorter prefix covers."""
        prefixes: list[str] = []
        for prefix in sorted({rule.prefix.encode() for rule in self.rules if not rule.keep}):
            if not prefixes or not prefix.startswith(prefixes[-1].encode()):
                prefixes.append(prefix.decode())
        return prefixes

    def may_expire(self, path: str, modified_ns: int, at_ns: int) -> bool:
        """Return whether an image or its run can have expired. If so, a full check must decide."""
        return any(
            rule.keep_last_runs is not None
            or (rule.expire_after is not None and modified_ns + rule.after_ns <= at_ns)
            for rule in self.rules
            if path.startswith(rule.prefix)
        )

    def find_expiration(
        self, path: str, modified_ns: int, tags: Collection[str]
    ) -> Expiration | None:
        """Return the expiration of an image that is in no published run, or None if it is kept."""
        expirations: list[Expiration] = []
        for rule in self.rules:
            if not path.startswith(rule.prefix):
                continue
            if rule.keep or not rule.unless_tagged.isdisjoint(tags):
                return None
            if rule.expire_after is not None:
                expirations.append(Expiration(modified_ns + rule.after_ns, rule))
        return min(expirations, key=lambda expiration: expiration.at_ns, default=None)

    def touching(self, folder: str) -> Sequence[Rule]:
        """Return the rules that apply to at least a part of a folder's content."""
        path = f"{folder}/"
        return [r for r in self.rules if path.startswith(r.prefix) or r.prefix.startswith(path)]

    def covering(self, folder: str) -> Sequence[Rule]:
        """Return the rules that apply to a folder's whole content."""
        return [rule for rule in self.rules if f"{folder}/".startswith(rule.prefix)]
