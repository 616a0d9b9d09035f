"""Faults of `server` and `telemetry`."""

from mutations.fault import faults

FAULTS = faults(r"""
fast path: an answer is kept when its image has changed
speed/fast_path/responses.py: acceptance/test_operations.py acceptance/test_kept_answers.py -k
  'saved_listed or kept'
-(_CACHED, cached, image.size) if self._storage.is_current(image) else None
+_CACHED, cached, image.size

fast path: an upload ignores its conditions
speed/fast_path/uploads.py: acceptance/test_operations.py
-verified.grant, path, fields, body)
+verified.grant, path, {n: v for n, v in fields.items() if n[:3] != 'if-'}, body)

ASGI path: a GET ignores its conditions and ranges
store/api/responses.py: acceptance/test_serving.py
-answer = answer_image(method, fields, image.image, cache_control=cache_control)
+answer = answer_image(method, {}, image.image, cache_control=cache_control)

workers: each answers for itself alone when it is asked for numbers
store/telemetry/metrics.py: acceptance/test_operations.py -k counted
-if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
-        flush()
+if "PROMETHEUS_MULTIPROC" in os.environ:
+        flush()

connection: a request that is sent ahead gets no answer
speed/http11/connection.py: acceptance/test_requests_ahead.py -k in_order
-            buffer, self._buffer = self._buffer, b""
-            self.data_received(buffer)
+            self._buffer = b""

connection: a client that half-closes gets no answer
speed/http11/connection.py: acceptance/test_slow_and_gone_clients.py -k sends_no_more
-            self._exchange.keep_alive = False
-            return True
+            return False

connection: a refused upload is reset before its client reads why
speed/http11/connection.py: acceptance/test_slow_and_gone_clients.py -k early_refusal
-        if self._buffer or self._state is _HEAD or not self._body.is_complete:
+        if self._buffer or self._state is _HEAD:

connection: there may be any number of them
speed/http11/connection.py: acceptance/test_bounds.py -k 503
-        elif len(service.connections) > service.settings.max_connections:
+        elif not service.settings.max_connections:

connection: an image is read to its end for a client that is gone
speed/http11/connection.py: acceptance/test_observing.py -k breaks_off
-never yields.
-        if self._exchange is not None:
-            self._exchange.disconnect()
+never yields.

time-outs: an idle connection has only the time of a head
speed/http11/connection.py: acceptance/test_bounds.py -k outlives
-(settings.idle_timeout_seconds if self.served else first_s)
+first_s

time-outs: a body may come a thirtieth as fast
speed/http11/connection.py: acceptance/test_bounds.py -k body_that_comes
-settings.min_body_bytes_per_second * waited_s:
+settings.min_body_bytes_per_second:

time-outs: the speed of a body is no setting
speed/connections.py: acceptance/test_bounds.py -k body_that_comes
-                settings=self.settings,
+                settings=SpeedSettings.of_values(),

time-outs: an idle connection counts as one that stopped reading
speed/http11/connection.py: acceptance/test_bounds.py -k outlives
-        if unsent == 0 or unsent != self._unsent:
+        if unsent != self._unsent:

time-outs: one connection's fault stops those of all others
speed/http11/service.py: unit/test_timeout_timer.py
-            except Exception:  # an error in one
+            except ValueError:  # one

head: a client that asks to close is kept
speed/http11/head.py: acceptance/test_answers.py acceptance/test_requests_ahead.py
  acceptance/test_fast_path.py -k 'goodbye or close'
-is_1_1 and self._keeps_alive and not
+is_1_1 and not

head: no Host is needed
speed/http11/head.py: acceptance/test_answers.py -k malformed_http
-        if hosts > 1 or (hosts == 0 and version != "1.0"):
+        if hosts > 1:

head: one in HTTP/1.0 may be chunked
speed/http11/head.py: acceptance/test_answers.py -k malformed_http
-(codings != [b"chunked"] or version == "1.0")
+codings != [b"chunked"]

head: a body may follow an offer to upgrade
speed/http11/head.py: acceptance/test_answers.py -k malformed_http
-        if self._offers_upgrade and (lengths or codings):
+        if self._offers_upgrade and lengths and codings:

head: any number of fields is read
speed/http11/head.py: acceptance/test_bounds.py acceptance/test_answers.py -k '431 or every_bound'
-        if len(names) > self._settings.max_header_fields:
+        if len(names) > self._settings.max_head_bytes:

body: 100 Continue is sent before each piece
speed/http11/body.py: unit/test_request_body.py
-            self._reading_begun = True

body: one that breaks off counts as a whole one
speed/http11/body.py: unit/test_request_body.py
-                raise ConnectionError("the client disconnected")
+                raise StopAsyncIteration

body: what nobody reads piles up in memory
speed/http11/body.py: unit/test_request_body.py
-is_full = self._queued_bytes > _MAX_BYTES or self.has_undecoded_chunks
+is_full = self.has_undecoded_chunks

ASGI path: HEAD is answered with a body
speed/http11/asgi.py: acceptance/test_both_paths.py
-self._request.method == "HEAD" or self._status in (204, 304)
+self._status in (204, 304)

exchange: a refused upload leaves its client to guess that the connection closes
speed/http11/exchange.py: acceptance/test_slow_and_gone_clients.py -k early_refusal
-        self.keep_alive = self.keep_alive and self._body.is_complete

exchange: a client's request id is not given back
speed/http11/exchange.py: acceptance/test_fast_path.py acceptance/test_observing.py -k id
-if self._has_client_id or status >= 400
+if status >= 400

fast path: a token reads outside of its folder
speed/fast_path/reads.py: acceptance/test_fast_path.py -k refuse_alike
-        if line is None or not checked.grant.covers(line.path):
+        if line is None:

fast path: a token without its scope reads
store/api/images.py: acceptance/test_fast_path.py -k refuse_alike
-verified if verified and "storage:read" in verified.grant.scopes else None
+verified

fast path: a token is good for ever
speed/fast_path/reads.py: acceptance/test_fast_path.py -k ends
-        if checked is None or not 0 < checked.until - now <= CACHE_S:
+        if checked is None:

fast path: an error has no id
speed/fast_path/reads.py: acceptance/test_fast_path.py acceptance/test_observing.py -k 'id or name'
-        if status >= 400 and not client_id:
+        if status > 412 and not client_id:

fast path: answers to conditions pile up
speed/fast_path/responses.py: unit/test_fast_reads.py
-(line.image, answer), size + ENTRY_BYTES)
+(line.image, answer), 0)

fast path: an evicted answer goes on taking room
bounded_cache.py: unit/test_bounded_cache.py
-        if entry is not None:
-            self._size -= entry.size
+        if entry is not None:

sendfile: a range goes on behind its end
speed/fast_path/sendfile.py: acceptance/test_fast_path.py acceptance/test_both_paths.py
-        window = min(self._left, _WINDOW_BYTES)
-        sent =
+        window = _WINDOW_BYTES
+        sent =

sendfile: an image stays open behind its answer
speed/fast_path/sendfile.py: acceptance/test_slow_and_gone_clients.py -k descriptor
-        self._image.close()

sendfile: a download that broke off counts as whole
speed/fast_path/sendfile.py: acceptance/test_observing.py -k breaks_off
-        sent = self._length - self._left
+        sent = self._length

sendfile: a file that became shorter is waited for
speed/fast_path/sendfile.py: acceptance/test_slow_and_gone_clients.py -k shorter
-        if sent == 0:
-            raise OSError
+        if sent < 0:
+            raise OSError

workers: one that cannot start is started again and again
server/supervisor.py: acceptance/test_starting.py -k cannot_start
-        if worker.exitcode == STARTUP_FAILURE:
+        if worker.exitcode is None:

workers: one that dies again and again is replaced at once
server/supervisor.py: acceptance/test_starting.py -k again_and_again
-    return 0.0 if deaths == 1 else
+    return 0.0 if deaths else

workers: the connections of a dead one are counted for ever
server/supervisor.py: acceptance/test_observing.py -k the_dead
-        self._clear_gauges_of(worker)

workers: a stop goes on taking connections
server/supervisor.py: acceptance/test_bounds.py -k stop_refuses
-            listener.close()  # otherwise
+            listener.fileno()  # else

workers: a second signal changes nothing
server/supervisor.py: acceptance/test_bounds.py -k second_signal
-                if self.signal_queue:
-                    worker.kill()
+                if not self.processes:
+                    worker.kill()

descriptors: none is left for images
server/descriptors.py: acceptance/test_bounds.py -k descriptors
-max(descriptors - _RESERVED, descriptors // 2)
+descriptors

descriptors: the soft limit stays
server/descriptors.py: unit/test_descriptors.py
-resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
+resource.getrlimit(resource.RLIMIT_NOFILE)
""")
