"""Faults of the search: words, rows, index, and the operation."""

from mutations.fault import faults

FAULTS = faults(r"""
search, words: accents count
features/search/words.py: media/test_search_rows.py -k accents
-"".join(one for one in spread if not unicodedata.combining(one))
+"".join(spread)

search, words: a name is found by its first word alone
features/search/words.py: media/test_search_rows.py -k length
-for at in range(len(words))
+for at in range(1)

search, rows: a late removal takes a later save
features/search/rows.py: media/test_search_rows.py -k removal
-(certain or known[key].saved_ns <= removed.at_ns)
+known[key].saved_ns

search, rows: an older save that comes late replaces a newer one
features/search/rows.py: media/test_search_rows.py -k later_save
-(key not in known or known[key].saved_ns <= image["saved_ns"])
+(key not in known or known[key].saved_ns)

search, rows: what is behind a prefix is found, too
features/search/rows.py: media/test_search_rows.py -k filters
-inside = key >= prefix, key < prefix + BEHIND_ALL
+inside = (key >= prefix,)

search, rows: a page begins with the last image of the one before
features/search/rows.py: media/test_search_rows.py -k page_by_page
-yield order < query.after if query.descending
+yield order <= query.after if query.descending

search, rows: the mark of an older save is told
features/search/rows.py: media/test_search_rows.py acceptance/test_entries.py -k 'ai_made or mark'
-            if row.etag == etags[row.storage_key]

search, rows: the words of an image stay behind it
features/search/rows.py: media/test_search_rows.py media/test_index.py
-            connection.execute(sa.delete(full_text).where(full_text.c.rowid.in_(gone)))
+            pass

search, rows: images saved at one moment replace each other
features/search/rows.py: media/test_search_rows.py -k 'one_moment or newest'
-if id_ in taken or last[id_] != at]
+if last[id_] != at]

search, words: a prompt is looked for in paths, too
features/search/full_text.py: media/test_search_rows.py -k 'words_and_phrases or filters'
-yield _Way(words, is_prefix, ("prompt",))
+yield _Way(words, is_prefix, _COLUMNS)

search, words: a phrase begins in a prompt and ends in a path
features/search/full_text.py: media/test_search_rows.py -k phrases
-        position += _GAP

search, words: who may not see the library searches its texts
features/search/full_text.py: media/test_search_rows.py -k captions
-        if query.sees_library:
+        if query:

search, words: what the library says of an older save is found
features/library/rows/words.py: media/test_search_rows.py -k captions
-words.get((key, sha256))
+next(iter(words.values()), None)

search, rows: tags that are taken away are found
features/library/rows/tags.py: media/test_search_rows.py -k captions
-            await self._engine.note_changed(connection, [resource.storage_key])

index: a copy has the facts of what was saved over its source
features/search/filling.py: media/test_index.py -k copy
-                if source is not None and source.image.save_id == origin.save_id:
+                if source is not None:

index: what could not be written replaces what came since
features/search/filling.py: media/test_index.py -k batch
-        if change.key not in self._noted:
+        if change.key:

index: the row of a save that is written late stays
features/search/filling.py: media/test_index.py -k before_it_is_written
-if change.at_ns > due] + removed
+if change.at_ns > due]

index: manifests are images
features/search/filling.py: media/test_index.py -k manifest
-if not self._is_running or is_reserved(text) or not
+if not self._is_running or not

index: a change that could not be noted is not healed
features/search/filling.py: media/test_index.py -k too_much
-        if lost_ns != NEVER_NS:
-            await (await self.database.scans()).restart(INDEX_SCAN, at=now())

index: an overwrite that could not be noted is not compared
features/search/catching_up.py: media/test_index.py -k too_much
-                    self._started = now()  # scans that began before may have missed the change
+                    pass

index: the index of another storage is compared since its latest save
features/search/catching_up.py: events/test_images.py -k another_storage
-            since = "0"
+            pass

index: images of another storage are reported as deleted
features/search/rows.py: events/test_images.py -k another_storage
-                deleted = ()
+                pass

index: an interrupted comparison with another storage is forgotten
features/search/comparison_rows.py: events/test_images.py -k another_storage
-            await connection.execute(sa.update(scans).where(*other).values(after=""))

index: a comparison overwrites what was saved while it read
features/search/comparing.py: events/test_images.py -k while_it_reads
-            compared_with=known,

index: a rebuild writes an image that is older than its row
features/search/comparing.py: events/test_images.py -k while_it_reads
-                suspected &= known.keys()
+                suspected = set()

index: metadata that could not be read stays missing
features/search/filling.py: events/test_images.py -k cannot_be_read
-                self._unread.put_nowait(change.image)
+                pass

index: healing looks at compute results alone
features/search/healing.py: media/test_index.py -k healing
-                if next_after is None and tree != TREES[-1]:
-                    next_after = MEDIA_PREFIX

index: healing keeps the rows of what is gone
features/search/comparing.py: media/test_index.py -k healing
-self._look_at(known.keys() - there.keys())
+self._look_at(known.keys() & set())

index: healing leaves out what was saved over
features/search/comparing.py: media/test_index.py -k healing
-return image.key.text in known and known[image.key.text].is_of(image)
+return image.key.text in known

search: a confined token finds what others have
features/search/operation.py: acceptance/test_search.py -k confined
-prefix=KeyPrefix.of_images(visible)
+prefix=KeyPrefix.of_images(parameters.prefix)

search: a cursor that no row can have reaches the database
features/search/query.py: acceptance/test_search.py -k bad_value
-    if len(numbers) != 1 + (order == "size") or max(numbers) > _MAX_POSITION:
+    if len(numbers) != 1 + (order == "size"):

search, counts: removed images are still counted
features/search/counts.py: media/test_counts.py -k any_changes
-    rows = [(1, *row) for row in added] + [(-1, *row) for row in removed]
+    rows = [(1, *row) for row in added]

search, counts: rows are counted before the scan comes to them
features/search/counts.py: media/test_counts.py -k any_changes
-[row for row in rows if last is None or row[1] <= last]
+rows

search, counts: a rebuild keeps wrong counts
features/search/healing.py: media/test_index.py -k rebuild_counts
-            await counts.reset()

search, rows: a page by size leaves out images of the same size
features/search/rows.py: media/test_counts.py -k by_size
-order = sa.tuple_(*sorted_by) if query.order == "size" else sorted_by[0]
+order = sorted_by[0]
""")
