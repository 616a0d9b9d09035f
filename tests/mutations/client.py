"""Faults of `client`."""

from typing import Final

from mutations.fault import Fault

RETRIES: Final = "tests/client/test_retries.py"
MANY: Final = "tests/client/test_many.py"
SOURCES: Final = "tests/client/test_sources.py"
WRONG_SERVER: Final = "tests/client/test_wrong_server.py"
STORE: Final = "tests/client/test_store.py"
GENERATORS: Final = "tests/client/test_generators.py"

FAULTS: Final = (
    Fault(
        "SDK: what is to be marked is saved as it is",
        "client/sources.py",
        "file = io.BytesIO(with_ai_mark(file.read()))",
        "file = io.BytesIO(file.read())",
        ("tests/client/test_ai_mark.py", "-k", "saved_with_the_mark"),
    ),
    Fault(
        "SDK: a busy server is not waited for",
        "client/retries.py",
        "frozenset((408, 429, 502, 503, 504))",
        "frozenset((408, 502, 503, 504))",
        (WRONG_SERVER, RETRIES),
    ),
    Fault(
        "SDK: what the server asks to wait is not waited",
        "client/retries.py",
        '            wait += _seconds(outcome.headers.get("retry-after", ""))\n',
        "            pass\n",
        (RETRIES, "-k", "waits"),
    ),
    Fault(
        "SDK: the echo of our own success is an error",
        "client/retries.py",
        "isinstance(outcome, Answer) or outcome.sent\n",
        "isinstance(outcome, Answer)\n",
        (RETRIES, "-k", "echoes or doubtful"),
    ),
    Fault(
        "SDK: a server that was never there is waited for as any other",
        "client/retries.py",
        "outcome.permanent or not (outcome.sent or self._retries.answered.is_set())",
        "outcome.permanent",
        (WRONG_SERVER, "-k", "waited_for"),
    ),
    Fault(
        "SDK: the last attempt may take longer than the deadline",
        "client/retries.py",
        "min(self._retries.timeout_s, left)",
        "self._retries.timeout_s",
        (RETRIES, WRONG_SERVER),
    ),
    Fault(
        "SDK: attempts are counted from the first byte of a download",
        "client/retries.py",
        "        self._began = self._retries.clock()\n        self._failed = 0\n",
        '        self._began, self._failed = getattr(self, "_began", self._retries.clock()), 0\n',
        (RETRIES, "-k", "download or deadline"),
    ),
    Fault(
        "SDK: what is the same is sent again",
        "client/sync.py",
        "self.save_unless_same if skip_same else self.save\n",
        "self.save\n",
        (MANY, "-k", "skipped"),
    ),
    Fault(
        "SDK: a search gives more than its limit",
        "client/sync.py",
        "            yield from found[:left]\n",
        "            yield from found\n",
        ("tests/client/test_search.py", "-k", "pages"),
    ),
    Fault(
        "SDK: a page of a search that is full is the last one",
        "client/sync.py",
        "else max(left - len(found), 0)",
        "else 0",
        ("tests/client/test_search.py", "-k", "pages"),
    ),
    Fault(
        "SDK: a batch that cannot be deleted stops all the others",
        "client/sync.py",
        "        except FAILED as error:\n            return [Outcome",
        "        except ValueError as error:\n            return [Outcome",
        (MANY,),
    ),
    Fault(
        "SDK: many are tried though each will fail alike",
        "client/many.py",
        "self.stopped |= isinstance(outcome.error, _FAILS_ALL)",
        "self.stopped |= outcome.error is self",
        (MANY, "-k", "alike"),
    ),
    Fault(
        "SDK: results come in the order in which they are ready",
        "client/many.py",
        "for number in sorted(self._outcomes))",
        "for number in self._outcomes)",
        (MANY,),
    ),
    Fault(
        "SDK: a file is sent from its beginning",
        "client/sources.py",
        "        self._file.seek(self._start)\n        left",
        "        self._file.seek(0)\n        left",
        (SOURCES,),
    ),
    Fault(
        "SDK: a file that became shorter is sent as it is",
        "client/sources.py",
        '                raise DigestMismatch("the file became shorter while it was sent: '
        'save it again")\n',
        "                return\n",
        (SOURCES,),
    ),
    Fault(
        "SDK: a stream that cannot be rewound is sent once",
        "client/sources.py",
        "        if not file.seekable():\n            buffered = stack",
        "        if file.closed:\n            buffered = stack",
        (SOURCES, RETRIES),
    ),
    Fault(
        "SDK: a shorter image keeps the end of the one before",
        "client/sinks.py",
        "            self._file.truncate()\n",
        "",
        (RETRIES, "-k", "replaced"),
    ),
    Fault(
        "SDK: a download that fails leaves a part behind",
        "client/sinks.py",
        "            part.unlink()\n",
        "            part.stat()\n",
        (STORE, "-k", "whole"),
    ),
    Fault(
        "SDK: the token goes to the CDN",
        "client/connection.py",
        "        if self.token is not None and not call.elsewhere:\n",
        "        if self.token is not None:\n",
        (RETRIES, "-k", "token"),
    ),
    Fault(
        "SDK: a URL leads into the process's own network by a mapped address",
        "client/fetching.py",
        "        if inner is not None:\n            return _is_public(inner)\n",
        "",
        (GENERATORS, "-k", "network"),
    ),
    Fault(
        "SDK: a redirect leaves https",
        "client/fetching.py",
        'if here.scheme == "https" and _parsed(url).scheme != "https":',
        'if here.scheme == "https" and not _parsed(url).scheme:',
        (GENERATORS, "-k", "address"),
    ),
    Fault(
        "SDK: any 404 is a missing image",
        "client/answers.py",
        "answer.status == 404 and _parse_error(answer)[0] == errors.ImageNotFound.code",
        "answer.status == 404",
        (WRONG_SERVER,),
    ),
    Fault(
        "SDK: a server writes to the terminal",
        "client/answers.py",
        'char if char.isprintable() else "?"',
        "char",
        (RETRIES, "-k", "control"),
    ),
    Fault(
        "SDK: the next page of a listing is forgotten",
        "client/answers.py",
        "    return entries, more[1] if more else None\n",
        "    return entries, None\n",
        (STORE, "-k", "paged"),
    ),
)
