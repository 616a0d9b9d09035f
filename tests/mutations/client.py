"""Faults of `client`."""

from mutations.fault import faults

FAULTS = faults(r"""
SDK: what is to be marked is saved as it is
client/sources.py: client/test_ai_mark.py -k saved_with_the_mark
-io.BytesIO(with_ai_mark(data) if ai_generated else data)
+io.BytesIO(data)

SDK: a busy server is not waited for
client/retries.py: client/test_wrong_server.py client/test_retries.py
-frozenset((408, 429, 502, 503, 504))
+frozenset((408, 502, 503, 504))

SDK: what the server asks to wait is not waited
client/retries.py: client/test_retries.py -k waits
-            wait += _seconds(outcome.headers.get("retry-after", ""))
+            pass

SDK: the echo of our own success is an error
client/retries.py: client/test_retries.py -k 'echoes or doubtful'
-isinstance(outcome, Answer) or outcome.sent
+isinstance(outcome, Answer)

SDK: a server that was never there is waited for as any other
client/retries.py: client/test_wrong_server.py -k waited_for
-outcome.permanent or not (outcome.sent or self._retries.answered.is_set())
+outcome.permanent

SDK: the last attempt may take longer than the deadline
client/retries.py: client/test_retries.py client/test_wrong_server.py
-min(self._retries.timeout_s, left)
+self._retries.timeout_s

SDK: attempts are counted from the first byte of a download
client/retries.py: client/test_retries.py -k 'download or deadline'
-        self._began = self._retries.clock()
-        self._failed = 0
+        self._began, self._failed = getattr(self, "_began", self._retries.clock()), 0

SDK: what is the same is sent again
client/sync.py: client/test_many.py -k skipped
-self.save_unless_same if skip_same else self.save
+self.save

SDK: a search gives more than its limit
client/retrying_sender.py: client/test_search.py -k pages
-            yield from page[:left]
+            yield from page

SDK: a page of a search that is full is the last one
client/retrying_sender.py: client/test_search.py -k pages
-else max(left - len(page), 0)
+else 0

SDK: a batch that cannot be deleted stops all the others
client/sync.py: client/test_many.py
-        except FAILED as error:
-            return [Outcome
+        except ValueError as error:
+            return [Outcome

SDK: many are tried though each will fail alike
client/threads.py: client/test_many.py -k alike
-self.stopped |= isinstance(outcome.error, _FAILS_ALL)
+self.stopped |= outcome.error is self

SDK: results come in the order in which they are ready
client/threads.py: client/test_many.py
-for number in sorted(self._outcomes))
+for number in self._outcomes)

SDK: a file is sent from its beginning
client/sources.py: client/test_sources.py
-        self._file.seek(self._start)
-        left
+        self._file.seek(0)
+        left

SDK: a file that became shorter is sent as it is
client/sources.py: client/test_sources.py
-                raise DigestMismatch("the file became shorter while it was sent: save it again")
+                return

SDK: a stream that cannot be rewound is sent once
client/sources.py: client/test_sources.py client/test_retries.py
-        if not file.seekable():
-            buffered = stack
+        if file.closed:
+            buffered = stack

SDK: a shorter image keeps the end of the one before
client/sinks.py: client/test_retries.py -k replaced
-            self._file.truncate()

SDK: a download that fails leaves a part behind
client/sinks.py: client/test_store.py -k whole
-            part.unlink()
+            part.stat()

SDK: the token goes to the CDN
client/connection.py: client/test_retries.py -k token
-        if self.token is not None and not call.elsewhere:
+        if self.token is not None:

SDK: a URL leads into the process's own network by a mapped address
client/fetching.py: client/test_generators.py -k network
-        if inner is not None:
-            return _is_public(inner)

SDK: a redirect leaves https
client/fetching.py: client/test_generators.py -k address
-if here.scheme == "https" and _parsed(url).scheme != "https":
+if here.scheme == "https" and not _parsed(url).scheme:

SDK: any 404 is a missing image
client/answers.py: client/test_wrong_server.py
-answer.status == 404 and _parse_error(answer)[0] == errors.ImageNotFound.code
+answer.status == 404

SDK: a server writes to the terminal
client/answers.py: client/test_retries.py -k control
-char if char.isprintable() else "?"
+char

SDK: the next page of a listing is forgotten
client/answers.py: client/test_store.py -k paged
-    return entries, more[1] if more else None
+    return entries, None
""")
