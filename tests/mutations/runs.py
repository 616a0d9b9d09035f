"""Faults of runs, retention rules and expiry."""

from mutations.fault import faults

FAULTS = faults(r"""
runs: a deletion takes what was saved after it was asked for
features/runs/deletion.py: media/test_run_deletion.py -k asked_for
-            older = [image for image in images if image.modified_ns <= until_ns]
+            older = images

runs: a manifest that is written while its run is deleted stays
features/runs/deletion.py: media/test_run_deletion.py -k written_while
-        await self._delete_manifest(manifest)
-        ended =
+        ended =

runs: a deletion has no shortest grace
features/runs/deletion.py: media/test_run_deletion.py -k minute
-max(grace, SHORTEST_GRACE)
+grace

runs: one with a published run in it is deleted
features/runs/deletion.py: media/test_run_deletion.py -k in_it
-        await self._runs.require_none_inside(folder)

runs: what the library needs is marked, too
features/runs/rows.py: media/test_run_deletion.py -k recorded
-[image for image in images if image.key not in in_use]
+[*images]

runs: of two deletions the earlier time counts
features/runs/rows.py: media/test_run_deletion.py -k one_process
-sa.case((old > new, old), else_=new)
+sa.case((old > new, new), else_=old)

runs: a listing of a published folder gives it on each page
features/runs/listing.py: media/test_runs.py -k behind
-                if not start:
-                    yield published
-                return
+                yield published
+                return

runs: a listing goes on inside of a published run
features/runs/listing.py: media/test_runs.py -k behind
-            if await self.find_published(inner) is not None:
-                return levels
+            await self.find_published(inner)

runs: one whose manifest is damaged is open
features/runs/listing.py: media/test_runs.py -k 'no_manifest or found or told'
-        if head is None:
-            saved_s
+        if head is None:
+            return None
+        if not head:
+            saved_s

runs: a torn manifest is a whole one
features/runs/manifest.py: media/test_runs.py
-    raise ValueError("the manifest is incomplete")

retention: a tag keeps nothing
features/retention/rules.py: media/test_retention.py -k tagged
-            if rule.keep or not rule.unless_tagged.isdisjoint(tags):
+            if rule.keep:

retention: what lies in two prefixes is looked at twice
features/retention/rules.py: unit/test_retention_file.py
-            if not prefixes or not prefix.startswith(prefixes[-1].encode()):
+            if prefix.decode() not in prefixes:

retention: what is kept within a run keeps it not
features/retention/rules.py: media/test_retention.py -k keeps_the_run
- or r.prefix.startswith(path)

retention: what was saved into an old run lately goes with it
features/retention/evaluator.py: media/test_expiry.py -k since
-max(saved_until_ns, at_ns - rule.after_ns)
+max(saved_until_ns, at_ns)

retention: one run fewer is kept
features/retention/evaluator.py: media/test_retention.py -k last_runs
-        if folder in newest:
-            return None

retention: a tag on equal bytes from elsewhere keeps no run
features/retention/evaluator.py: media/test_retention.py -k tagged
-                if await self._read_tags(inside, rule.unless_tagged):
+                if not inside and await self._read_tags(inside, rule.unless_tagged):

retention: the sweeper takes images out of published runs
features/retention/evaluator.py: media/test_retention.py -k 'asked_again or before_it_is_deleted'
-        if await self.find_run(image.key, {}) is not None:
-            return False

retention: a plan has what the library needs
features/retention/plan.py: media/test_retention.py -k last_runs_stay
-                    if image.key not in recorded:
+                    if image.key:

retention: true is a number of runs
features/retention/file.py: unit/test_retention_file.py
-isinstance(value, int) and not isinstance(value, bool) and value > 0
+isinstance(value, int) and value > 0

retention: a file that a setting names may be missing
store/toml_tables.py: unit/test_retention_file.py
-        if not is_named and isinstance(
+        if isinstance(

lifetimes: a save whose end cannot be noted takes a newer one with it
store/api/images.py: api/test_hooks.py -k newer
-self.storage.delete(image.key, save_id=image.save_id)
+self.storage.delete(image.key)
""")
