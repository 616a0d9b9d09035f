"""Faults of events: their order, their origin, the feed and its end."""

from mutations.fault import faults

FAULTS = faults(r"""
events: a position is used again after the newest rows were lost
features/events/rows.py: events/test_rows.py -k 'lost and sqlite'
-sa.case((last > clock, last), else_=clock) + count
+last + count

events: positions follow a clock that is set back
features/events/rows.py: events/test_rows.py -k 'set_back and sqlite'
-sa.case((last > clock, last), else_=clock) + count
+clock + count

events: a page ends before the events that it has not examined
features/events/rows.py: events/test_rows.py -k 'rare and sqlite'
-return last if end is None else min(end, last)
+return last

events: a prefix covers what begins like its folder
features/events/tables.py: events/test_rows.py -k 'prefix and sqlite'
-sa.and_(path == prefix.removesuffix("/"), events.c.type.in_(RUN_TYPES))
+path == prefix.removesuffix("/")

events: a deletion of old events is not noticed by a reader
features/events/operation.py: events/test_feed.py -k retention
-if after is not None and after < page.state.dropped_position:
+if after is not None and after < 0:

events: a row that is written again is an event again
features/search/rows.py: events/test_images.py -k 'older_save and sqlite'
-(known.save_id, known.etag) != (image["save_id"], image["etag"])
+bool(known.save_id)

events: a crashed sweeper leaves a deletion without its reason
features/library/sweeper.py: events/test_library.py -k 'crashed and sqlite'
-if outcome in (_Outcome.DELETED, _Outcome.GONE):
+if outcome is _Outcome.DELETED:

events: a request that publishes a run again is an event again
features/runs/rows.py: events/test_library.py -k 'published_once and sqlite'
-if [row.save_id for row in await self._read(known)] == [save_id]:
-            return
+save_id = f"{save_id} after {await self._read(known)}"

events: long polls outlive the beginning of a shutdown
features/events/waiting.py: events/test_feed.py -k shutdown
-self.is_ended = True
-        if
+if

events: a reader without the scope sees the library
features/events/operation.py: events/test_feed.py -k scope
-if name not in LIBRARY_TYPES or "media" in grant.scopes
+if name

events: the actor is lost
features/search/filling.py: events/test_images.py -k 'each_change and sqlite'
-self._note(_Saved(image, passed, actor=cause.actor))
+self._note(_Saved(image, passed))
""")
