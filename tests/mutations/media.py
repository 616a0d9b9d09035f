"""Faults of `media` (library, queue, sweeper) and of `derived`."""

from typing import Final

from mutations.fault import Fault

CHANGES: Final = "tests/media/test_changes.py"
LOCKS: Final = "tests/media/test_lock_order.py"

FAULTS: Final = (
    Fault(
        "queue: a claimed mark is claimed again at once",
        "media/rows/leases.py",
        "return sa.or_(lease.is_(None), lease < now())",
        "return sa.or_(lease.is_(None), lease != now())",
        ("tests/media/test_sweepers.py", "-k", "claimed or two_sweepers"),
    ),
    Fault(
        "queue: two sweepers take the same rows of PostgreSQL",
        "media/rows/deletions.py",
        "            .order_by(deletions.c.due_at)\n"
        "            .limit(limit)\n"
        "            .with_for_update(skip_locked=True)\n",
        "            .order_by(deletions.c.due_at)\n            .limit(limit)\n",
        (LOCKS, "-k", "two_sweepers"),
    ),
    Fault(
        "library: a deleted resource is there until it is swept",
        "media/rows/resources.py",
        "sa.update(resources).where(this).values(deleted_at=now())",
        "sa.select(resources).where(this)",
        (CHANGES, "-k", "deleted_resource"),
    ),
    Fault(
        "library: a protected resource is deleted",
        "media/rows/resources.py",
        "                if current.protected:\n",
        "                if current.protected and current.deleted_at:\n",
        (CHANGES, "-k", "protected"),
    ),
    Fault(
        "library: a page begins with the last resource of the one before",
        "media/rows/resources.py",
        "statement = statement.where(identity < query.after)",
        "statement = statement.where(identity <= query.after)",
        (CHANGES, "-k", "pages"),
    ),
    Fault(
        "library: what is filled replaces what was there",
        "media/rows/resources.py",
        "name: sa.func.coalesce(resources.c[name], sa.literal(value, resources.c[name].type))",
        "name: sa.literal(value, resources.c[name].type)",
        ("tests/media/test_enrichment.py", "-k", "unset"),
    ),
    Fault(
        "library: a source is due without its grace period",
        "media/service.py",
        "image, due_at = source.image, now() + self._grace",
        "image, due_at = source.image, now()",
        ("tests/media/test_ingest.py", "-k", "compute_result"),
    ),
    Fault(
        "library: a copy of other bytes than were looked at is kept",
        "media/service.py",
        "self._storage.copy(image.key, media_key, save_id=image.save_id)",
        "self._storage.copy(image.key, media_key, save_id=None)",
        ("tests/media/test_racing_ingest.py", "-k", "saved_over"),
    ),
    Fault(
        "sweeper: whatever lies under a marked key is deleted",
        "media/sweeper.py",
        "mark.storage_key, save_id=None if any_save else mark.save_id",
        "mark.storage_key, save_id=None",
        ("tests/media/test_sweeping.py", "-k", "saved_again"),
    ),
    Fault(
        "orphans: bytes of an ingest under way are orphans",
        "maintenance/orphans.py",
        "if now() - modified < self._older_than:",
        "if now() == modified:",
        ("tests/media/test_orphans.py", "-k", "young"),
    ),
    Fault(
        "expiry: one whose lease is over goes on marking",
        "media/rows/leases.py",
        "    renewal = sa.update(table).where(is_ours(table, claim))\n",
        "    renewal = sa.update(table)\n",
        ("tests/media/test_expiry.py", "-k", "late"),
    ),
    Fault(
        "derived: a picture of a marked image loses the mark",
        "derived/images.py",
        "                        picture = await self._in_thread(with_ai_mark, picture)\n",
        "                        picture = await self._in_thread(bytes, picture)\n",
        ("tests/derived/test_picture_marks.py", "-k", "marked_image_says"),
    ),
)
