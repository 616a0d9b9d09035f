"""The fast path: cached GETs and HEADs, sendfile, and uploads, answered inside the connection.

What is not simple goes to the ASGI path, `StillroomProtocol`. See docs/adr/0009-the-fast-path.md.
"""

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import httptools

from stillroom.http.problems import Problem
from stillroom.server.fast_path.answer_cache import (
    MAX_COPIED_BYTES,
    Answer,
    SharedFile,
    read_from_page_cache,
)
from stillroom.server.fast_path.application import application_of
from stillroom.server.fast_path.sending import FileSending
from stillroom.server.fast_path.uploads import Upload, upload_of
from stillroom.server.protocol import StillroomProtocol
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log, log_access

if TYPE_CHECKING:
    from fastapi import FastAPI


_SEND_BUFFER: Final = memoryview(bytearray(MAX_COPIED_BYTES + 16 * 1024))
"""Free again at the end of each turn of the event loop, so all connections share it."""


class FastPathProtocol(StillroomProtocol):
    """One connection. Simple requests are answered here, all others by the application."""

    _socket: socket.socket

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (uvicorn's signature)
        super().__init__(*args, **kwargs)
        self._application = application_of(
            self.server_state,
            cast("FastAPI", self.config.loaded_app),
            longest_target=self._bounds.target_bytes,
        )
        self._whole_head: bytes | None = None  # if it came in one piece, and nothing with it
        self._sendfile: FileSending | None = None
        self._pending_record: _AccessRecord | None = None  # of what is being sent
        self._upload: Upload | None = None
        self._closes_after_answer = False
        self._just_answered = False  # and nothing has happened on this connection since
        self._logs_access = access_log.isEnabledFor(logging.INFO)

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Set up the connection, with a socket of our own."""
        # The transport's own, for as long as it lives: answers go past its buffer.
        self._socket = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        self._socket.setblocking(False)  # as it is; else `dup` would make it block
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is under way."""
        if self._sendfile is not None:
            self._sendfile.cancel()
            self._end_sendfile(self._sendfile)
        self._abort_upload()
        self._socket.detach()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own type
        """Half-close: a client that has sent all it wants may still be reading."""
        if self._upload is not None and self._upload.body.remaining:
            return None
        if self._sendfile is not None or self._upload is not None:
            self._closes_after_answer = True
            return True
        return super().eof_received()

    def data_received(self, data: bytes) -> None:
        """Answer a cached head at once; give a body to its upload; else feed the parser."""
        if self._just_answered:
            if self._answer_from_cache(data):
                return
            self._just_answered = False
        if self._upload is not None and self._upload.bypasses_parser:
            self._feed_body(self._upload, data)
            return
        self._whole_head = None
        if data.endswith(b"\r\n\r\n") and self._is_idle:
            if self._answer_from_cache(data):
                return
            self._whole_head = data
        super().data_received(data)
        if self._upload is not None and self._upload.body.remaining:
            self._upload.bypasses_parser = True

    def shutdown(self) -> None:
        """Graceful shutdown: finish what runs, take on nothing new."""
        self._just_answered = False
        if self._sendfile is None and self._upload is None:
            super().shutdown()
        else:
            self._draining = True
            self._end_keep_alive()

    # Answering from the cache ------------------------------------------------------------

    @property
    def _is_idle(self) -> bool:
        """Whether the next byte begins a head, and nothing else is under way."""
        return (
            self._in_head
            and not self._head_bytes
            and not self._is_answering
            and not (self._refused or self._lingering or self._draining)
            and not self.transport.get_write_buffer_size()
            and not self.transport.is_closing()
        )

    @property
    def _is_answering(self) -> bool:
        return self._sendfile is not None or self._upload is not None or super()._is_answering

    def _try_fast_path(self) -> bool:
        """Answer a request whose head has passed all checks; cache the head for the next one."""
        if self._whole_head is not None:
            head = request_id.without_field(self._whole_head, self.headers)
            if head is not None and self._application.responses.remember(head, self.headers):
                return self._answer_from_cache(self._whole_head)
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.transport.get_write_buffer_size()
            and self._begin_upload()
        )

    def _answer_from_cache(self, request: bytes) -> bool:
        """Answer a whole head without waiting for anything; False: it takes the ASGI path."""
        began = time.perf_counter()
        now = time.time()
        answer = self._application.responses.get(request, now)
        client_id = b""
        if answer is None:
            client_id, answer = self._get_ignoring_request_id(request, now)
            if answer is None:
                return False
        image = answer.image
        if image is None:
            self._send_now(answer.data)
        elif answer.length > MAX_COPIED_BYTES:
            self._start_sendfile(image, answer)
        elif not self._send_copied(image, answer):
            return False
        self._record_answer(answer, request, client_id, began)
        return True

    def _get_ignoring_request_id(self, request: bytes, now: float) -> tuple[bytes, Answer | None]:
        """The request id in a head, and the answer if the rest is cached: ids differ each time."""
        line = request_id.find_field(request)
        if line is None:
            return b"", None
        bare = request[: line.start] + request[line.end :]
        answer = self._application.responses.get(bare, now)
        return line.id, None if answer is None else answer.with_request_id(line.id)

    def _record_answer(
        self, answer: Answer, request: bytes, client_id: bytes, began: float
    ) -> None:
        """Count and log an answer that is on its way, or has gone."""
        self._just_answered = self._sendfile is None and not self.transport.get_write_buffer_size()
        self._has_received_request = True
        self._since = self.loop.time()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        took_s = time.perf_counter() - began
        if self._sendfile is not None:
            metrics.count(answer.operation, answer.status, took_s)
            metrics.begin()
            self._pending_record = _AccessRecord(answer, request, client_id, began)
            return
        metrics.count(answer.operation, answer.status, took_s, answer.body_bytes)
        if self._logs_access:
            self._log_answer(_AccessRecord(answer, request, client_id, began), answer.body_bytes)

    def _log_answer(self, record: "_AccessRecord", sent: int) -> None:
        answer, logged_id = record.answer, record.client_id
        if not logged_id:  # a success without an id of the client's: only this line has it
            logged_id = answer.generated_id if answer.id_offset else request_id.generate_bytes()
        method, target, _ = record.request.decode("latin-1").split(" ", 2)
        log_access(
            self.client,
            method,
            target,
            answer.status,
            operation=answer.operation,
            request_id=logged_id.decode("ascii"),
            began=record.began,
            sent=sent,
        )

    # Sending -----------------------------------------------------------------------------

    def _send_now(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the socket at once; the transport would wait for the end of the loop's turn."""
        if self.transport.get_write_buffer_size():
            self.transport.write(bytes(data))
            return
        try:
            sent = self._socket.send(data)
            if sent == len(data):
                return
        except BlockingIOError:
            sent = 0
        except OSError:
            self.transport.abort()
            return
        self.transport.write(bytes(data[sent:]))  # `_is_idle` looks at its buffer

    def _send_copied(self, image: SharedFile, answer: Answer) -> bool:
        """Send a small image with its head, in one call; False: it is not in the page cache."""
        head = answer.data
        end = len(head) + answer.length
        _SEND_BUFFER[: len(head)] = head
        is_read = read_from_page_cache(image, _SEND_BUFFER[len(head) : end], answer.start)
        image.close()
        if is_read:
            self._send_now(_SEND_BUFFER[:end])
        return is_read

    def _start_sendfile(self, image: SharedFile, answer: Answer) -> None:
        sending = FileSending(
            self.loop, self._socket, bytes(answer.data), image, answer.start, answer.length
        )
        try:
            if sending.send_at_once():
                return
        except OSError:
            sending.cancel()
            self.transport.abort()
            return
        self._sendfile = sending
        self.flow.pause_reading()
        sending.send_rest(self._sendfile_ended)

    def _sendfile_ended(self, error: BaseException | None) -> None:
        if self._sendfile is not None:
            self._end_sendfile(self._sendfile)
        if error is not None:
            self.transport.abort()
        else:
            self._finish_answer()

    def _end_sendfile(self, sending: FileSending) -> None:
        self._sendfile = None
        record, self._pending_record = self._pending_record, None
        if record is not None:
            sent = max(0, record.answer.length - sending.remaining)
            metrics.end()
            metrics.count_sent(record.answer.operation, sent)
            if self._logs_access:
                self._log_answer(record, sent)

    def _finish_answer(self) -> None:
        """Go on with the next request, unless keep-alive has ended."""
        if self._closes_after_answer and self._refused:
            self.linger()  # what follows would be answered with a reset
        elif self._closes_after_answer:
            self.transport.close()
        else:
            self.on_response_complete()

    def _end_keep_alive(self) -> None:
        if self.pipeline or (self._sendfile is None and self._upload is None):
            super()._end_keep_alive()
        else:
            self._closes_after_answer = True

    @property
    def _unsent_bytes(self) -> int:
        return super()._unsent_bytes if self._sendfile is None else self._sendfile.remaining

    # Receiving ---------------------------------------------------------------------------

    def _begin_upload(self) -> bool:
        upload = upload_of(self._application.tokens, self.url, self.headers)
        if upload is None:
            return False
        if self.expect_100_continue:  # asked for by this head; the parser may go on to the next
            upload.body.on_first_read = self._send_100_continue
        upload.body.set_reading = self._set_reading
        self._upload = upload
        task = self.loop.create_task(self._save(upload))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    def _send_100_continue(self) -> None:
        self._send_now(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _set_reading(self, reads: bool) -> None:  # noqa: FBT001  (the name says it)
        if reads:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()

    def _on_fast_path_body(self, body: bytes) -> None:
        if self._upload is not None:
            self._upload.body.feed(body)

    def _feed_body(self, upload: Upload, data: bytes) -> None:
        """Give a piece of a body to its upload; the parser would only copy it."""
        self._body_bytes += len(data)
        rest = upload.body.feed(data)
        if not upload.body.remaining:
            upload.bypasses_parser = False
            self.parser = httptools.HttpRequestParser(self)  # the old one waits for the body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self.on_message_complete()
        if rest:
            self.data_received(rest)

    async def _save(self, upload: Upload) -> None:
        metrics.begin()
        try:
            answer = await upload.run(self._application.operations)
        except asyncio.CancelledError:  # the drain time of a shutdown is over
            self.transport.close()
            return
        finally:
            metrics.end()
            metrics.count_received("save_image", upload.received)
        metrics.count("save_image", answer.status, time.perf_counter() - upload.began)
        if self._upload is upload:
            self._upload = None
            self._send_upload_response(upload, answer)

    def _send_upload_response(self, upload: Upload, answer: Problem) -> None:
        keep_alive = not self._closes_after_answer and not upload.body.remaining
        extra_headers = self._application.extra_headers
        self._send_now(upload.response(answer, extra_headers, keep_alive=keep_alive))
        metrics.count_sent("save_image", len(answer.body))
        if self._logs_access:
            log_access(
                self.client,
                "POST",
                upload.target.decode("ascii"),
                answer.status,
                operation="save_image",
                request_id=upload.request_id,
                began=upload.began,
                received=upload.received,
                sent=len(answer.body),
            )
        if upload.body.remaining:
            self.linger()
        else:
            self._finish_answer()

    @property
    def _is_awaiting_body(self) -> bool:
        if self._upload is None:
            return super()._is_awaiting_body
        body = self._upload.body
        return body.remaining > 0 and body.is_awaited and not self._refused

    def _end_broken_request(self) -> bool:
        if self._upload is None:
            return super()._end_broken_request()
        if not self._upload.body.remaining:
            return False
        self._abort_upload()
        return True

    def _abort_upload(self) -> None:
        if self._upload is not None:
            self._upload.body.abort()
            self._upload = None


class _AccessRecord(NamedTuple):
    """What the access log says about an answer once it has been sent."""

    answer: Answer
    request: bytes
    client_id: bytes
    began: float
