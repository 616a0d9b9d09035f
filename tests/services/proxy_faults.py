"""What goes wrong with a request on its way through the faulty proxy."""

import time
from typing import Final

from services.faulty_proxy import Exchange, Fault, pass_on


def is_late(exchange: Exchange) -> None:
    time.sleep(0.1)  # the fault itself
    pass_on(exchange)


def resets_before_the_body(exchange: Exchange) -> None:
    exchange.reset()


def resets_after_the_body(exchange: Exchange) -> None:
    exchange.receive()
    exchange.reset()


def does_it_and_resets(exchange: Exchange) -> None:
    exchange.carry_out()
    exchange.reset()


def does_it_and_closes(exchange: Exchange) -> None:
    exchange.carry_out()
    exchange.close()


def is_silent(exchange: Exchange) -> None:
    exchange.receive()
    exchange.be_silent()


def does_it_and_is_silent(exchange: Exchange) -> None:
    exchange.carry_out()
    exchange.be_silent()


def reads_nothing(exchange: Exchange) -> None:
    exchange.keeps_open = False
    exchange._proxy.stopped.wait(5)


def answers(status: int, code: str, *fields: str) -> Fault:
    """Refuse, nothing done; `fields` are lines of the answer's head."""

    def fault(exchange: Exchange) -> None:
        exchange.receive()
        body = f"<Error><Code>{code}</Code></Error>" if code else "<html>Bad"
        _say(exchange, status, body, *fields)

    fault.__name__ = f"answers_{status}"
    return fault


def does_it_but_says_500(exchange: Exchange) -> None:
    exchange.carry_out()
    _say(exchange, 500, "<Error><Code>InternalError</Code></Error>")


def redirects_elsewhere(exchange: Exchange) -> None:
    exchange.receive()
    exchange.send(b"HTTP/1.1 307 -\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")


def breaks_off_its_head(exchange: Exchange) -> None:
    answer = exchange.carry_out()
    exchange.send(answer.head[: len(answer.head) // 2])
    exchange.close()


def is_silent_in_its_head(exchange: Exchange) -> None:
    answer = exchange.carry_out()
    exchange.send(answer.head[: len(answer.head) // 2])
    exchange.be_silent()


def breaks_off_its_body(exchange: Exchange) -> None:
    exchange.send(_half_of_the_body(exchange))
    exchange.close()


def is_silent_in_its_body(exchange: Exchange) -> None:
    exchange.send(_half_of_the_body(exchange))
    exchange.be_silent()


def _half_of_the_body(exchange: Exchange) -> bytes:
    """Of an answer without one: all but the end of its head."""
    answer = exchange.carry_out()
    if not answer.body:
        return answer.head[:-2]
    return answer.head + answer.body[: len(answer.body) // 2]


def announces_too_little(exchange: Exchange) -> None:
    """Half of the body is then no part of the answer, and stands where the next one should."""
    answer = exchange.carry_out()
    if exchange.method == "HEAD":
        exchange.send(answer.head + b"<html>")
    else:
        half = len(answer.body) // 2
        exchange.send(answer.with_length(half).head + (answer.body or b"<html>"))


def speaks_no_http(exchange: Exchange) -> None:
    exchange.carry_out()
    exchange.send(b"220 mail.example.com ESMTP\r\n")
    exchange.close()


def _say(exchange: Exchange, status: int, body: str, *fields: str) -> None:
    body = "" if exchange.method == "HEAD" else body
    head = (f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *fields)
    exchange.send("\r\n".join((*head, "", body)).encode())


FAULTS: Final[tuple[Fault, ...]] = (
    is_late,
    resets_before_the_body,
    resets_after_the_body,
    does_it_and_resets,
    does_it_and_closes,
    is_silent,
    does_it_and_is_silent,
    reads_nothing,
    answers(429, "SlowDown"),
    answers(500, "InternalError"),
    answers(503, "ServiceUnavailable"),
    answers(502, ""),
    does_it_but_says_500,
    redirects_elsewhere,
    breaks_off_its_head,
    is_silent_in_its_head,
    breaks_off_its_body,
    is_silent_in_its_body,
    announces_too_little,
    speaks_no_http,
)
"""Each kind of trouble once."""

CANNOT_BE_MENDED: Final[frozenset[Fault]] = frozenset((redirects_elsewhere, announces_too_little))
"""An answer of its own, and a wrong one: no repetition is right. All others must be got through."""

NOT_DONE: Final[frozenset[Fault]] = frozenset(
    fault
    for fault in FAULTS
    if fault.__name__.startswith(("resets", "is_silent", "reads", "answers", "redirects"))
    and "_in_its_" not in fault.__name__
)
"""After these the bucket has not seen the request."""
