"""Faults of the media library and of thumbnails."""

from mutations.fault import faults

FAULTS = faults(r"""
queue: a claimed mark is claimed again at once
features/database/leases.py: media/test_sweepers.py -k 'claimed or two_sweepers'
-return sa.or_(lease.is_(None), lease < now())
+return sa.or_(lease.is_(None), lease != now())

queue: two sweepers take the same rows of PostgreSQL
features/library/rows/deletions.py: media/test_lock_order.py -k two_sweepers
-        .order_by(deletions.c.due_at)
-        .limit(limit)
-        .with_for_update(skip_locked=True)
+        .order_by(deletions.c.due_at)
+        .limit(limit)

library: a deleted resource is there until it is swept
features/library/rows/resources.py: media/test_changes.py -k deleted_resource
-sa.update(resources).where(this).values(deleted_at=now())
+sa.select(resources).where(this)

library: a protected resource is deleted
features/library/rows/resources.py: media/test_changes.py -k protected
-                if current.protected:
+                if current.protected and current.deleted_at:

library: a page begins with the last resource of the one before
features/library/rows/resources.py: media/test_changes.py -k pages
-statement = statement.where(identity < query.after)
+statement = statement.where(identity <= query.after)

library: what is filled replaces what was there
features/library/rows/resources.py: media/test_enrichment.py -k unset
-name: sa.func.coalesce(resources.c[name], sa.literal(value, resources.c[name].type))
+name: sa.literal(value, resources.c[name].type)

library: a source is due without its grace period
features/library/service.py: media/test_ingest.py -k compute_result
-image, due_at = source.image, now() + self._grace
+image, due_at = source.image, now()

library: a copy of other bytes than were looked at is kept
features/library/service.py: media/test_racing_ingest.py -k saved_over
-self._storage.copy(image.key, media_key, save_id=image.save_id)
+self._storage.copy(image.key, media_key, save_id=None)

sweeper: whatever lies under a marked key is deleted
features/library/sweeper.py: media/test_sweeping.py -k saved_again
-save_id = None if any_save else mark.save_id
+save_id = None

orphans: bytes of an ingest under way are orphans
maintenance/orphans.py: media/test_orphans.py -k young
-if now() - modified < self._older_than:
+if now() == modified:

expiry: one whose lease is over goes on marking
features/database/leases.py: media/test_expiry.py -k late
-    renewal = sa.update(table).where(is_ours(table, claim))
+    renewal = sa.update(table)

derived: a picture of a marked image loses the mark
features/pictures/images.py: derived/test_picture_marks.py -k marked_image_says
-                        picture = await self._in_thread(with_ai_mark, picture)
+                        picture = await self._in_thread(bytes, picture)
""")
