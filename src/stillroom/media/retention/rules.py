"""Rules of retention: what each says of an image and of a published run. Pure; no I/O.

Of several rules the earliest end counts, unless one says that the image stays.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

COMPUTE_TTL: Final = "STILLROOM_COMPUTE_TTL"
"""The name of the rule that this setting is."""

_MICROSECOND: Final = timedelta(microseconds=1)

_LATEST_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule says.

    Attributes:
        name: `rule 2` for the second one of the file, or `COMPUTE_TTL`.
        prefix: Literal text that paths begin with; of a run, its folder and a slash.
        expire_after: How old an image, or a published run, becomes; None: as old as it likes.
        keep_last_runs: How many of the published runs stay, the newest ones; None: not counted.
        unless_tagged: What has one of these tags in the media library stays.
        keep: All of it stays, whatever other rules say.
    """

    name: str
    prefix: str
    expire_after: timedelta | None = None
    keep_last_runs: int | None = None
    unless_tagged: frozenset[str] = frozenset()
    keep: bool = False

    @property
    def after_ns(self) -> int:
        """`expire_after` in nanoseconds; 0 without one."""
        return 0 if self.expire_after is None else self.expire_after // _MICROSECOND * 1000

    def has_ended(self, modified_ns: int, at_ns: int) -> bool:
        """Whether an image that was saved then is too old at `at_ns`."""
        return self.expire_after is not None and modified_ns + self.after_ns <= at_ns


@dataclass(frozen=True, slots=True)
class End:
    """When something comes to its end, and by which rule."""

    at_ns: int
    rule: Rule

    @property
    def at(self) -> datetime:
        """The same, UTC; files can have times that a date cannot say."""
        return datetime.fromtimestamp(max(0, min(self.at_ns // 1000 / 1e6, _LATEST_S)), UTC)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of one store, in the order of the file."""

    rules: Sequence[Rule] = ()

    def __iter__(self) -> Iterator[Rule]:
        """One after the other."""
        return iter(self.rules)

    @property
    def end_anything(self) -> bool:
        """Whether any rule lets anything end."""
        return any(not rule.keep for rule in self.rules)

    @property
    def tags(self) -> frozenset[str]:
        """All tags that keep something."""
        return frozenset().union(*(rule.unless_tagged for rule in self.rules))

    @property
    def shortest(self) -> timedelta | None:
        """The shortest life that a rule gives; None: none counts time."""
        return min((r.expire_after for r in self.rules if r.expire_after is not None), default=None)

    @property
    def prefixes(self) -> Sequence[str]:
        """What is to be looked through, in the order of keys; none is within another."""
        found: list[str] = []
        for prefix in sorted({rule.prefix.encode() for rule in self.rules if not rule.keep}):
            if not found or not prefix.startswith(found[-1].encode()):
                found.append(prefix.decode())
        return found

    def may_end(self, path: str, modified_ns: int, at_ns: int) -> bool:
        """Whether an image, or the run that it is in, is worth a closer look."""
        return any(
            rule.keep_last_runs is not None or rule.has_ended(modified_ns, at_ns)
            for rule in self.rules
            if path.startswith(rule.prefix)
        )

    def end_of_image(self, path: str, modified_ns: int, tags: Collection[str]) -> End | None:
        """When an image ends that is in no published run; None: it stays.

        Args:
            path: Of the image.
            modified_ns: When it was saved.
            tags: That the library has for it.
        """
        ends: list[End] = []
        for rule in self.rules:
            if not path.startswith(rule.prefix):
                continue
            if rule.keep or not rule.unless_tagged.isdisjoint(tags):
                return None
            if rule.expire_after is not None:
                ends.append(End(modified_ns + rule.after_ns, rule))
        return min(ends, key=lambda end: end.at_ns, default=None)

    def touching(self, folder: str) -> Sequence[Rule]:
        """The rules about a folder, or about a part of what is in it."""
        inside = folder + "/"
        return [
            rule
            for rule in self.rules
            if inside.startswith(rule.prefix) or rule.prefix.startswith(inside)
        ]

    def covering(self, folder: str) -> Sequence[Rule]:
        """The rules about all that is in a folder."""
        return [rule for rule in self.rules if f"{folder}/".startswith(rule.prefix)]
