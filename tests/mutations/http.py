"""Faults of `http` and `api`."""

from mutations.fault import faults

FAULTS = faults(r"""
If-Match: a weak tag matches
store/http/fields.py: unit/test_fields.py unit/test_serving.py
-        if weak or not match[1]:
+        if match:

ranges: one that ends behind the image is too long by a byte
store/http/serving.py: unit/test_serving.py acceptance/test_serving.py
-return start, max(0, min(end, image.size - 1) - start + 1)
+return start, max(0, min(end, image.size) - start + 1)

stored pages are shown and not downloaded
store/http/serving.py: acceptance/test_serving.py
-    if image.content_type not in INLINE:
+    if not image.content_type:

forms: the second of two files wins
store/http/multipart.py: unit/test_multipart.py -k two_files
-        if self._seen_file:
-            raise InvalidUpload("the form has two
+        if not self._seen_file and self._skipped < 0:
+            raise InvalidUpload("the form has two

listings: the link to the next page forgets the prefix
store/http/parameters.py: unit/test_query.py acceptance/test_operations.py -k link
-read_texts(raw, kind) | {"start_after": [str(last)]}
+{"start_after": [str(last)]}

problems: a conflict is a precondition that failed
store/http/problems.py: acceptance/test_answers.py -k 409
-    errors.PathConflict: 409,
+    errors.PathConflict: 412,

conditions: an If-None-Match that cannot be read lets a change through
store/http/serving.py: unit/test_serving.py
-    if if_none_match == frozenset():
+    if if_none_match is None and if_none_match:

conditions: If-Unmodified-Since is not asked
store/http/serving.py: unit/test_serving.py
-if unmodified_since is not None and modified > unmodified_since:
+if unmodified_since is None and modified is None:

ranges: a part is joined to another image's by its date
store/http/serving.py: unit/test_serving.py
-fields.get("if-range", image.etag) != image.etag:
+fields.get("if-range") not in (None, image.etag, format_http_date(image.modified_ns)):

forms: one without its end is whole
store/http/multipart.py: unit/test_multipart.py
-            self._parser.close()
+            pass

forms: parts beside the file may be of any size
store/http/multipart.py: unit/test_multipart.py
-        if self._skipped > MAX_SKIPPED_BYTES or
+        if

forms: a part contradicts its request
store/http/multipart.py: unit/test_multipart.py
-        if self.expected_sha256 not in (None, announced):
+        if self.expected_sha256 is not None and not announced:

fields: a digest of another length is none
store/http/fields.py: unit/test_fields.py
-    if len(digest) != _SHA256_BYTES:
+    if not digest:

copies: a token copies what it may not read
store/api/copies.py: acceptance/test_copy_and_delete.py -k refused
-        call.grant.require("storage:read", source)

copies: a condition is passed over
store/api/copies.py: acceptance/test_copy_and_delete.py -k refused
-        if write_condition(call.fields).is_set:
+        if write_condition(call.fields) is None:

deletions: a list deletes outside of the token's folder
store/api/deletions.py: acceptance/test_copy_and_delete.py -k many
-                call.grant.require("storage:delete", image_path)

public images: who shows a bad token reads all the same
store/api/images.py: acceptance/test_public_read.py -k is_told
-        elif "authorization" in fields or not self.public_read:
+        elif not self.public_read:

uploads: one that is too large is read before it is refused
store/api/images.py: acceptance/test_slow_and_gone_clients.py -k early_refusal
-        if length is not None and length > self.max_upload_bytes + FRAMING_BYTES:
+        if length is not None and length < 0:

tags: a change goes over a condition
features/library/enrichment.py: acceptance/test_enrichment.py -k tags
-        if write_condition(call.fields).is_set:
+        if write_condition(call.fields) is None:

pictures: one side alone cuts something off
features/pictures/derivation.py: derived/test_pictures.py
-fit=parameters.fit if parameters.width and parameters.height else "contain"
+fit=parameters.fit
""")
