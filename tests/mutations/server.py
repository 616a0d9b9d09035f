"""Faults of `server` and `telemetry`."""

from typing import Final

from mutations.fault import Fault

BODY: Final = "tests/unit/test_request_body.py"
AHEAD: Final = "tests/acceptance/test_requests_ahead.py"
BOUNDS: Final = "tests/acceptance/test_bounds.py"
FAST: Final = "tests/acceptance/test_fast_path.py"
SLOW: Final = "tests/acceptance/test_slow_and_gone_clients.py"
STARTING: Final = "tests/acceptance/test_starting.py"
OBSERVING: Final = "tests/acceptance/test_observing.py"
ANSWERS: Final = "tests/acceptance/test_answers.py"

FAULTS: Final = (
    Fault(
        "fast path: an answer is kept when its image has changed",
        "server/fast_path/responses.py",
        "(_CACHED, cached, image.size) if self._storage.is_current(image) else None\n",
        "_CACHED, cached, image.size\n",
        (
            "tests/acceptance/test_operations.py",
            "tests/acceptance/test_kept_answers.py",
            "-k",
            "saved_listed or kept",
        ),
    ),
    Fault(
        "fast path: an upload ignores its conditions",
        "server/fast_path/uploads.py",
        "verified.grant, path, fields, body)",
        "verified.grant, path, {n: v for n, v in fields.items() if n[:3] != 'if-'}, body)",
        ("tests/acceptance/test_operations.py",),
    ),
    Fault(
        "ASGI path: a GET ignores its conditions and ranges",
        "api/sendfile.py",
        "answer = answer_image(method, fields, image.image, cache_control=cache_control)",
        "answer = answer_image(method, {}, image.image, cache_control=cache_control)",
        ("tests/acceptance/test_serving.py",),
    ),
    Fault(
        "workers: each answers for itself alone when it is asked for numbers",
        "telemetry/metrics.py",
        'if "PROMETHEUS_MULTIPROC_DIR" in os.environ:\n        flush()\n',
        'if "PROMETHEUS_MULTIPROC" in os.environ:\n        flush()\n',
        ("tests/acceptance/test_operations.py", "-k", "counted"),
    ),
    Fault(
        "connection: a request that is sent ahead gets no answer",
        "server/http11/connection.py",
        '            buffer, self._buffer = self._buffer, b""\n'
        "            self.data_received(buffer)\n",
        '            self._buffer = b""\n',
        (AHEAD, "-k", "in_order"),
    ),
    Fault(
        "connection: a client that half-closes gets no answer",
        "server/http11/connection.py",
        "            self._exchange.keep_alive = False\n            return True\n",
        "            return False\n",
        (SLOW, "-k", "sends_no_more"),
    ),
    Fault(
        "connection: a refused upload is reset before its client reads why",
        "server/http11/connection.py",
        "        if self._buffer or self._state is _HEAD or not self._body.is_complete:\n",
        "        if self._buffer or self._state is _HEAD:\n",
        (SLOW, "-k", "early_refusal"),
    ),
    Fault(
        "connection: there may be any number of them",
        "server/http11/connection.py",
        "        elif len(service.connections) > service.bounds.connections:\n",
        "        elif not service.bounds.connections:\n",
        (BOUNDS, "-k", "503"),
    ),
    Fault(
        "connection: an image is read to its end for a client that is gone",
        "server/http11/connection.py",
        "never yields.\n"
        "        if self._exchange is not None:\n"
        "            self._exchange.disconnect()\n",
        "never yields.\n",
        (OBSERVING, "-k", "breaks_off"),
    ),
    Fault(
        "time-outs: an idle connection has only the time of a head",
        "server/http11/connection.py",
        "(bounds.idle_timeout_s if self.served else bounds.head_timeout_s)",
        "bounds.head_timeout_s",
        (BOUNDS, "-k", "outlives"),
    ),
    Fault(
        "time-outs: a body may come a thirtieth as fast",
        "server/http11/connection.py",
        "bounds.body_bytes_per_s * waited_s:",
        "bounds.body_bytes_per_s:",
        (BOUNDS, SLOW, "-k", "body_that_comes"),
    ),
    Fault(
        "time-outs: an idle connection counts as one that stopped reading",
        "server/http11/connection.py",
        "        if unsent == 0 or unsent != self._unsent:\n",
        "        if unsent != self._unsent:\n",
        (BOUNDS, "-k", "outlives"),
    ),
    Fault(
        "time-outs: one connection's fault stops those of all others",
        "server/http11/timeout_timer.py",
        "            except Exception:  # an error in one",
        "            except ValueError:  # one",
        ("tests/unit/test_timeout_timer.py",),
    ),
    Fault(
        "head: a client that asks to close is kept",
        "server/http11/head.py",
        "is_1_1 and self._keeps_alive and not",
        "is_1_1 and not",
        (ANSWERS, AHEAD, FAST, "-k", "goodbye or close"),
    ),
    Fault(
        "head: no Host is needed",
        "server/http11/head.py",
        '        if hosts > 1 or (hosts == 0 and version != "1.0"):\n',
        "        if hosts > 1:\n",
        (ANSWERS, "-k", "malformed_http"),
    ),
    Fault(
        "head: one in HTTP/1.0 may be chunked",
        "server/http11/head.py",
        '(codings != [b"chunked"] or version == "1.0")',
        'codings != [b"chunked"]',
        (ANSWERS, "-k", "malformed_http"),
    ),
    Fault(
        "head: a body may follow an offer to upgrade",
        "server/http11/head.py",
        "        if self._offers_upgrade and (lengths or codings):\n",
        "        if self._offers_upgrade and lengths and codings:\n",
        (ANSWERS, "-k", "malformed_http"),
    ),
    Fault(
        "head: any number of fields is read",
        "server/http11/head.py",
        "        if len(names) > self._bounds.header_fields:\n",
        "        if len(names) > self._bounds.head_bytes:\n",
        (BOUNDS, ANSWERS, "-k", "431 or every_bound"),
    ),
    Fault(
        "body: 100 Continue is sent before each piece",
        "server/http11/body.py",
        "            self._reading_begun = True\n",
        "",
        (BODY,),
    ),
    Fault(
        "body: one that breaks off counts as a whole one",
        "server/http11/body.py",
        '                raise ConnectionError("the client disconnected")\n',
        "                raise StopAsyncIteration\n",
        (BODY,),
    ),
    Fault(
        "body: what nobody reads piles up in memory",
        "server/http11/body.py",
        "is_full = self._queued_bytes > _MAX_BYTES or self.has_undecoded_chunks",
        "is_full = self.has_undecoded_chunks",
        (BODY,),
    ),
    Fault(
        "ASGI path: HEAD is answered with a body",
        "server/http11/asgi.py",
        'self._request.method == "HEAD" or self._status in (204, 304)',
        "self._status in (204, 304)",
        ("tests/acceptance/test_both_paths.py",),
    ),
    Fault(
        "exchange: a refused upload leaves its client to guess that the connection closes",
        "server/http11/exchange.py",
        "        self.keep_alive = self.keep_alive and self._body.is_complete\n",
        "",
        (SLOW, "-k", "early_refusal"),
    ),
    Fault(
        "exchange: a client's request id is not given back",
        "server/http11/exchange.py",
        "if self._has_client_id or status >= 400",
        "if status >= 400",
        (FAST, OBSERVING, "-k", "id"),
    ),
    Fault(
        "fast path: a token reads outside of its folder",
        "server/fast_path/reads.py",
        "        if line is None or not checked.grant.covers(line.path):\n",
        "        if line is None:\n",
        (FAST, "-k", "refuse_alike"),
    ),
    Fault(
        "fast path: a token without its scope reads",
        "api/images.py",
        'verified if verified and "storage:read" in verified.grant.scopes else None',
        "verified",
        (FAST, "-k", "refuse_alike"),
    ),
    Fault(
        "fast path: a token is good for ever",
        "server/fast_path/reads.py",
        "        if checked is None or not 0 < checked.until - now <= CACHE_S:\n",
        "        if checked is None:\n",
        (FAST, "-k", "ends"),
    ),
    Fault(
        "fast path: an error has no id",
        "server/fast_path/reads.py",
        "        if status >= 400 and not client_id:\n",
        "        if status > 412 and not client_id:\n",
        (FAST, OBSERVING, "-k", "id or name"),
    ),
    Fault(
        "fast path: answers to conditions pile up",
        "server/fast_path/responses.py",
        "(line.image, answer), size + ENTRY_BYTES)",
        "(line.image, answer), 0)",
        ("tests/unit/test_fast_reads.py",),
    ),
    Fault(
        "fast path: an evicted answer goes on taking room",
        "bounded_cache.py",
        "        if entry is not None:\n            self._size -= entry.size\n",
        "        if entry is not None:\n",
        ("tests/unit/test_bounded_cache.py",),
    ),
    Fault(
        "sendfile: a range goes on behind its end",
        "server/fast_path/sendfile.py",
        "        window = min(self._left, _WINDOW_BYTES)\n        sent =",
        "        window = _WINDOW_BYTES\n        sent =",
        (FAST, "tests/acceptance/test_both_paths.py"),
    ),
    Fault(
        "sendfile: an image stays open behind its answer",
        "server/fast_path/sendfile.py",
        "        self._image.close()\n",
        "",
        (SLOW, "-k", "descriptor"),
    ),
    Fault(
        "sendfile: a download that broke off counts as whole",
        "server/fast_path/sendfile.py",
        "        sent = self._length - self._left\n",
        "        sent = self._length\n",
        (OBSERVING, "-k", "breaks_off"),
    ),
    Fault(
        "sendfile: a file that became shorter is waited for",
        "server/fast_path/sendfile.py",
        "        if sent == 0:\n            raise OSError",
        "        if sent < 0:\n            raise OSError",
        (SLOW, "-k", "shorter"),
    ),
    Fault(
        "workers: one that cannot start is started again and again",
        "server/supervisor.py",
        "        if worker.exitcode == STARTUP_FAILURE:\n",
        "        if worker.exitcode is None:\n",
        (STARTING, "-k", "cannot_start"),
    ),
    Fault(
        "workers: one that dies again and again is replaced at once",
        "server/supervisor.py",
        "    if worker.early_deaths == 1:\n",
        "    if worker.early_deaths:\n",
        (STARTING, "-k", "again_and_again"),
    ),
    Fault(
        "workers: the connections of a dead one are counted for ever",
        "server/supervisor.py",
        "        self._clear_gauges_of(worker)\n",
        "",
        (OBSERVING, "-k", "the_dead"),
    ),
    Fault(
        "workers: a stop goes on taking connections",
        "server/supervisor.py",
        "            listener.close()  # otherwise",
        "            listener.fileno()  # else",
        (BOUNDS, "-k", "stop_refuses"),
    ),
    Fault(
        "workers: a second signal changes nothing",
        "server/supervisor.py",
        "                if self.signal_queue:\n                    worker.kill()",
        "                if not self.processes:\n                    worker.kill()",
        (BOUNDS, "-k", "second_signal"),
    ),
    Fault(
        "descriptors: none is left for images",
        "server/descriptors.py",
        "max(descriptors - _RESERVED, descriptors // 2)",
        "descriptors",
        (BOUNDS, "-k", "descriptors"),
    ),
    Fault(
        "descriptors: the soft limit stays",
        "server/descriptors.py",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))",
        "resource.getrlimit(resource.RLIMIT_NOFILE)",
        ("tests/unit/test_descriptors.py",),
    ),
)
