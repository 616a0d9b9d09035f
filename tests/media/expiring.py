"""Expiry by rules that mark images at once."""

from datetime import timedelta

import sqlalchemy as sa

from media.library import Library
from stillroom.features.database.clock import now
from stillroom.features.database.tables import scans
from stillroom.features.retention.expiry import Expiry
from stillroom.features.retention.rules import COMPUTE_TTL, Rule, Rules

OLD_AT_ONCE = timedelta(seconds=-60)  # a bucket's times have whole seconds, and another clock


def expiring(library: Library, ttl: timedelta = OLD_AT_ONCE) -> Expiry:
    return by_rules(library, Rule(COMPUTE_TTL, "", expire_after=ttl))


def by_rules(library: Library, *rules: Rule) -> Expiry:
    """What marks by these rules; the library's own sweeps hold marks to them, too."""
    library.expiry = Expiry(library.seen, library.database, rules=Rules(rules), grace=timedelta(0))
    return library.expiry


def let_it_be_time(library: Library) -> None:
    then = now() - timedelta(days=1)
    library.change(sa.update(scans).values(next_at=then, lease_until=None))
