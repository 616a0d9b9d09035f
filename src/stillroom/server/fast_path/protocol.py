"""The protocol that takes the fast path where it can."""

import asyncio
import logging
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import httptools

from stillroom.api.images import ImageOperations
from stillroom.auth.verified import VerifiedTokens
from stillroom.http.problems import Problem
from stillroom.server.answering import date_at
from stillroom.server.fast_path.answer_cache import JOINED_BYTES, Answer, SharedFile, read_cached
from stillroom.server.fast_path.response_cache import Headers, ResponseCache
from stillroom.server.fast_path.sending import FileSending
from stillroom.server.fast_path.uploads import Upload, upload_of
from stillroom.server.protocol import StillroomProtocol
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log, log_access

if TYPE_CHECKING:
    from fastapi import FastAPI


_JOINING: Final = memoryview(bytearray(JOINED_BYTES + 16 * 1024))
"""Used and left within one turn of the event loop, so one does for all connections."""


class FastPathProtocol(StillroomProtocol):
    """One connection. Simple requests are answered here, all others by the application."""

    _socket: socket.socket

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (uvicorn's signature)
        super().__init__(*args, **kwargs)
        self._application = _application_of(self)
        self._head: bytes | None = None
        self._sending: FileSending | None = None
        self._pending_record: _AccessRecord | None = None  # what is being sent
        self._upload: Upload | None = None
        self._is_last = False
        self._just_answered = False  # and nothing has happened on this connection since
        self._logs_access = access_log.isEnabledFor(logging.INFO)

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin."""
        # The transport's own, for as long as it lives: answers go past its buffer.
        self._socket = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        self._socket.setblocking(False)  # as it is; else `dup` would make it block
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way."""
        if self._sending is not None:
            self._sending.cancel()
            self._end_sending(self._sending)
        self._give_up_upload()
        self._socket.detach()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own type
        """A client that has sent all it wants may still be reading."""
        if self._upload is not None and self._upload.body.missing:
            return None
        if self._sending is not None or self._upload is not None:
            self._is_last = True
            return True
        return super().eof_received()

    def data_received(self, data: bytes) -> None:
        """Answer a known head at once; give a body to its upload; else feed the parser."""
        if self._just_answered:
            if self._answer(data):
                return
            self._just_answered = False
        if self._upload is not None and self._upload.is_past_parser:
            self._feed_past_parser(self._upload, data)
            return
        self._head = None
        if data.endswith(b"\r\n\r\n") and self._is_at_rest:
            if self._answer(data):
                return
            self._head = data
        super().data_received(data)
        if self._upload is not None and self._upload.body.missing:
            self._upload.is_past_parser = True

    def shutdown(self) -> None:
        """The server stops: finish what runs, take on nothing new."""
        self._just_answered = False
        if self._sending is None and self._upload is None:
            super().shutdown()
        else:
            self._draining = True
            self._make_last()

    # The road ----------------------------------------------------------------------------

    @property
    def _is_at_rest(self) -> bool:
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
        return self._sending is not None or self._upload is not None or super()._is_answering

    def _take(self) -> bool:
        """Take the fast path with a head that has passed all checks, and the next time at once."""
        if self._head is not None:
            head = request_id.without_line(self._head, self.headers)
            if head is not None and self._application.responses.learn(head, self.headers):
                return self._answer(self._head)
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.transport.get_write_buffer_size()
            and self._begin_upload()
        )

    def _answer(self, request: bytes) -> bool:
        """Answer a whole head from what is at hand; False: it takes the ASGI path."""
        began = time.perf_counter()
        now = time.time()
        answer = self._application.responses.answer(request, now)
        named = b""
        if answer is None:
            named, answer = self._known_but_for_its_id(request, now)
            if answer is None:
                return False
        image = answer.image
        if image is None:
            self._send(answer.sent)
        elif answer.length > JOINED_BYTES:
            self._send_file(image, answer)
        elif not self._send_joined(image, answer):
            return False
        self._answered(answer, request, named, began)
        return True

    def _known_but_for_its_id(self, request: bytes, now: float) -> tuple[bytes, Answer | None]:
        """The id of a head, and the answer if the rest of it is known: ids differ each time."""
        line = request_id.line_in(request)
        if line is None:
            return b"", None
        bare = request[: line.start] + request[line.end :]
        answer = self._application.responses.answer(bare, now)
        return line.id, None if answer is None else answer.named(line.id)

    def _answered(self, answer: Answer, request: bytes, named: bytes, began: float) -> None:
        """Note that an answer is on its way, or has gone."""
        self._just_answered = self._sending is None and not self.transport.get_write_buffer_size()
        self._has_asked = True
        self._since = self.loop.time()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        took_s = time.perf_counter() - began
        if self._sending is not None:
            metrics.count(answer.operation, answer.status, took_s)
            metrics.begin()
            self._pending_record = _AccessRecord(answer, request, named, began)
            return
        metrics.count(answer.operation, answer.status, took_s, answer.body_bytes)
        if self._logs_access:
            self._log(_AccessRecord(answer, request, named, began), answer.body_bytes)

    def _log(self, told: "_AccessRecord", sent: int) -> None:
        answer, named = told.answer, told.named
        if not named:  # a success without an id of the client's: only this line has it
            named = answer.made_id if answer.id_at else request_id.made_bytes()
        method, target, _ = told.request.decode("latin-1").split(" ", 2)
        log_access(
            self.client,
            method,
            target,
            answer.status,
            operation=answer.operation,
            request_id=named.decode("ascii"),
            began=told.began,
            sent=sent,
        )

    # Sending -----------------------------------------------------------------------------

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        """Past the transport's buffer, which would wait for the end of the loop's turn."""
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
        self.transport.write(bytes(data[sent:]))  # `_is_at_rest` looks at its buffer

    def _send_joined(self, image: SharedFile, answer: Answer) -> bool:
        """A small image goes with its head, in one call; False: it is not at hand."""
        head = answer.sent
        end = len(head) + answer.length
        _JOINING[: len(head)] = head
        whole = read_cached(image, _JOINING[len(head) : end], answer.start)
        image.close()
        if whole:
            self._send(_JOINING[:end])
        return whole

    def _send_file(self, image: SharedFile, answer: Answer) -> None:
        sending = FileSending(
            self.loop, self._socket, bytes(answer.sent), image, answer.start, answer.length
        )
        try:
            if sending.at_once():
                return
        except OSError:
            sending.cancel()
            self.transport.abort()
            return
        self._sending = sending
        self.flow.pause_reading()
        sending.rest(self._sent_file)

    def _sent_file(self, *, all_sent: bool) -> None:
        if self._sending is not None:
            self._end_sending(self._sending)
        if not all_sent:
            self.transport.abort()
        else:
            self._end_answer()

    def _end_sending(self, sending: FileSending) -> None:
        self._sending = None
        told, self._pending_record = self._pending_record, None
        if told is not None:
            sent = max(0, told.answer.length - sending.left)
            metrics.end()
            metrics.count_sent(told.answer.operation, sent)
            if self._logs_access:
                self._log(told, sent)

    def _end_answer(self) -> None:
        """Go on with the next request, unless this was the last."""
        if self._is_last and self._refused:
            self.linger()  # what follows would be answered with a reset
        elif self._is_last:
            self.transport.close()
        else:
            self.on_response_complete()

    def _make_last(self) -> None:
        if self.pipeline or (self._sending is None and self._upload is None):
            super()._make_last()
        else:
            self._is_last = True

    @property
    def _unsent_bytes(self) -> int:
        return super()._unsent_bytes if self._sending is None else self._sending.left

    # Receiving ---------------------------------------------------------------------------

    def _begin_upload(self) -> bool:
        upload = upload_of(self._application.tokens, self.url, self.headers)
        if upload is None:
            return False
        if self.expect_100_continue:  # asked for by this head; the parser may go on to the next
            upload.body.on_begin = self._continue
        upload.body.on_pressure = self._keep_reading
        self._upload = upload
        task = self.loop.create_task(self._save(upload))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    def _continue(self) -> None:
        self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _keep_reading(self, go_on: bool) -> None:  # noqa: FBT001  (the name says it)
        if go_on:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()

    def _take_body(self, body: bytes) -> None:
        if self._upload is not None:
            self._upload.body.feed(body)

    def _feed_past_parser(self, upload: Upload, data: bytes) -> None:
        """A piece of a body, which the parser would only copy."""
        self._body_bytes += len(data)
        rest = upload.body.feed(data)
        if not upload.body.missing:
            upload.is_past_parser = False
            self.parser = httptools.HttpRequestParser(self)  # the old one waits for the body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self.on_message_complete()
        if rest:
            self.data_received(rest)

    async def _save(self, upload: Upload) -> None:
        metrics.begin()
        try:
            answer = await upload.run(self._application.operations)
        except asyncio.CancelledError:  # a stop that waits no longer
            self.transport.close()
            return
        finally:
            metrics.end()
            metrics.count_received("save_image", upload.received)
        metrics.count("save_image", answer.status, time.perf_counter() - upload.began)
        if self._upload is upload:
            self._upload = None
            self._send_saved(upload, answer)

    def _send_saved(self, upload: Upload, answer: Problem) -> None:
        is_last = self._is_last or upload.body.missing > 0
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        fields = (*answer.headers, *self._application.also)
        lines += [f"{name}: {value}" for name, value in fields]
        if upload.is_named or answer.status >= 400:
            lines.append(f"{request_id.FIELD}: {upload.request_id}")
        if is_last:
            lines.append("connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\ndate: "
        self._send(head + date_at(int(time.time())) + b"\r\n\r\n" + answer.body)
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
        if upload.body.missing:
            self.linger()
        else:
            self._end_answer()

    @property
    def _is_awaiting_body(self) -> bool:
        if self._upload is None:
            return super()._is_awaiting_body
        body = self._upload.body
        return body.missing > 0 and body.is_awaited and not self._refused

    def _end_broken_request(self) -> bool:
        if self._upload is None:
            return super()._end_broken_request()
        if not self._upload.body.missing:
            return False
        self._give_up_upload()
        return True

    def _give_up_upload(self) -> None:
        if self._upload is not None:
            self._upload.body.lose()
            self._upload = None


class _AccessRecord(NamedTuple):
    """What is said about an answer once it has been sent."""

    answer: Answer
    request: bytes
    named: bytes
    began: float


@dataclass(frozen=True, slots=True)
class _Application:
    """The parts of the application that the fast path leads to; one of each in a process."""

    operations: ImageOperations
    tokens: VerifiedTokens
    responses: ResponseCache
    also: Headers


def _application_of(protocol: FastPathProtocol) -> _Application:
    state = protocol.server_state
    application: _Application | None = getattr(state, "application", None)
    if application is None:
        wired = cast("FastAPI", protocol.config.loaded_app).state
        also = (("vary", "Origin"),) if wired.varies_by_origin else ()
        responses = ResponseCache(
            wired.operations,
            wired.tokens,
            longest_target=protocol._bounds.target_bytes,  # noqa: SLF001  (same class)
            also=also,
        )
        application = _Application(wired.operations, wired.tokens, responses, also)
        state.application = application  # type: ignore[attr-defined]  # ours; uvicorn has no such hook
    return application
