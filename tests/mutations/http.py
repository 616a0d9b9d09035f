"""Faults of `http` and `api`."""

from typing import Final

from mutations.fault import Fault

SERVING: Final = "tests/unit/test_serving.py"
MULTIPART: Final = "tests/unit/test_multipart.py"
FIELDS: Final = "tests/unit/test_fields.py"
COPY: Final = "tests/acceptance/test_copy_and_delete.py"

FAULTS: Final = (
    Fault(
        "If-Match: a weak tag matches",
        "http/fields.py",
        "        if weak or not match[1]:\n",
        "        if match:\n",
        ("tests/unit/test_fields.py", "tests/unit/test_serving.py"),
    ),
    Fault(
        "ranges: one that ends behind the image is too long by a byte",
        "http/serving.py",
        "return start, max(0, min(end, image.size - 1) - start + 1)",
        "return start, max(0, min(end, image.size) - start + 1)",
        ("tests/unit/test_serving.py", "tests/acceptance/test_serving.py"),
    ),
    Fault(
        "stored pages are shown and not downloaded",
        "http/serving.py",
        "    if image.content_type not in INLINE:\n",
        "    if not image.content_type:\n",
        ("tests/acceptance/test_serving.py",),
    ),
    Fault(
        "forms: the second of two files wins",
        "http/multipart.py",
        '        if self._seen_file:\n            raise InvalidUpload("the form has two',
        "        if not self._seen_file and self._skipped < 0:\n"
        '            raise InvalidUpload("the form has two',
        (MULTIPART, "-k", "two_files"),
    ),
    Fault(
        "listings: the link to the next page forgets the prefix",
        "http/query.py",
        "            prefix=self.prefix.text or None,\n            start_after=last_entry,\n",
        "            start_after=last_entry,\n",
        ("tests/unit/test_query.py", "tests/acceptance/test_operations.py", "-k", "link"),
    ),
    Fault(
        "problems: a conflict is a precondition that failed",
        "http/problems.py",
        "    errors.PathConflict: 409,\n",
        "    errors.PathConflict: 412,\n",
        ("tests/acceptance/test_answers.py", "-k", "409"),
    ),
    Fault(
        "conditions: an If-None-Match that cannot be read lets a change through",
        "http/serving.py",
        "    if if_none_match == frozenset():\n",
        "    if if_none_match is None and if_none_match:\n",
        (SERVING,),
    ),
    Fault(
        "conditions: If-Unmodified-Since is not asked",
        "http/serving.py",
        "if unmodified_since is not None and modified > unmodified_since:",
        "if unmodified_since is None and modified is None:",
        (SERVING,),
    ),
    Fault(
        "ranges: a part is joined to another image's by its date",
        "http/serving.py",
        "return value is None or value == image.etag",
        "return value is None or value in (image.etag, format_http_date(image.modified_ns))",
        (SERVING,),
    ),
    Fault(
        "forms: one without its end is whole",
        "http/multipart.py",
        "            self._parser.close()\n",
        "            pass\n",
        (MULTIPART,),
    ),
    Fault(
        "forms: parts beside the file may be of any size",
        "http/multipart.py",
        "        if self._skipped > MAX_SKIPPED_BYTES or",
        "        if",
        (MULTIPART,),
    ),
    Fault(
        "forms: a part contradicts its request",
        "http/multipart.py",
        "        if self.expected_sha256 not in (None, announced):\n",
        "        if self.expected_sha256 is not None and not announced:\n",
        (MULTIPART,),
    ),
    Fault(
        "fields: a digest of another length is none",
        "http/fields.py",
        "    if len(digest) != _SHA256_BYTES:\n",
        "    if not digest:\n",
        (FIELDS,),
    ),
    Fault(
        "copies: a token copies what it may not read",
        "api/copies.py",
        '        call.grant.require("storage:read", source)\n',
        "",
        (COPY, "-k", "refused"),
    ),
    Fault(
        "copies: a condition is passed over",
        "api/copies.py",
        "        if write_condition(call.fields).is_set:\n",
        "        if write_condition(call.fields) is None:\n",
        (COPY, "-k", "refused"),
    ),
    Fault(
        "deletions: a list deletes outside of the token's folder",
        "api/deletions.py",
        '        grant.require("storage:delete", image_path)\n',
        "",
        (COPY, "-k", "many"),
    ),
    Fault(
        "public images: who shows a bad token reads all the same",
        "api/images.py",
        '        elif "authorization" in fields or not self.public_read:\n',
        "        elif not self.public_read:\n",
        ("tests/acceptance/test_public_read.py", "-k", "is_told"),
    ),
    Fault(
        "uploads: one that is too large is read before it is refused",
        "api/images.py",
        "        if int(declared) > self.max_upload_bytes + FRAMING_BYTES:\n",
        "        if int(declared) < 0:\n",
        ("tests/acceptance/test_slow_and_gone_clients.py", "-k", "early_refusal"),
    ),
    Fault(
        "tags: a change goes over a condition",
        "api/enrichment.py",
        "        if write_condition(call.fields).is_set:\n",
        "        if write_condition(call.fields) is None:\n",
        ("tests/acceptance/test_enrichment.py", "-k", "tags"),
    ),
    Fault(
        "pictures: one side alone cuts something off",
        "http/derivation.py",
        'fit=parameters.fit if parameters.width and parameters.height else "contain"',
        "fit=parameters.fit",
        ("tests/derived/test_pictures.py",),
    ),
)
