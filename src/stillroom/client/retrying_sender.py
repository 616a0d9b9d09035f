"""Sender that retries failed requests."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.requests import json_call, target_of
from stillroom.client.retries import Attempts, Retries
from stillroom.errors import InvalidPath, StillroomError

T = TypeVar("T")


class Sends(Protocol):
    """Protocol of senders that do not retry requests."""

    def send(self, call: Call) -> Answer | Failure:
        """Send a request. Raise `ConfigurationError` if the request is invalid."""
        ...

    def close(self) -> None:
        """Close all connections. The next request opens a new one."""
        ...


class RetryingSender:
    """Sender that retries idempotent requests until the deadline. `root` is the API's base URL."""

    def __init__(self, root: str, retries: Retries, sender: Sends) -> None:
        self.root = root
        self.retries = retries
        self.close = sender.close
        self._sender = sender

    def send(self, call: Call, attempts: Attempts | None = None) -> Answer:
        """Send a request, with retries. Return the response, even if it is an error response."""
        attempts = attempts or Attempts(self.retries)
        while True:
            outcome = self.send_once(call, attempts)
            wait = attempts.wait_after(outcome)
            if wait is not None:
                time.sleep(wait)
            elif isinstance(outcome, Answer):
                return outcome

    def send_once(self, call: Call, attempts: Attempts) -> Answer | Failure:
        """Send a request once, with a timeout that ends at the deadline of `attempts`."""
        return self._sender.send(attempts.prepared(call))

    def request(
        self, method: str, target: str, content: Mapping[str, object] | None = None
    ) -> Answer:
        """Send a request as `send` does, with a JSON body unless `content` is None."""
        call = Call(method, target) if content is None else json_call(method, target, content)
        return self.send(call)

    def remove(self, call: Call, subject: str, missing: type[StillroomError]) -> None:
        """Send a request that removes something, and raise an exception unless it succeeded.

        An error of the type `missing` is ignored if an earlier attempt may have succeeded.
        """
        attempts = Attempts(self.retries)
        answer = self.send(call, attempts)
        try:
            answers.document(answer, subject)
        except missing:
            if not attempts.doubtful:
                raise

    def items(
        self, target: str, parse: Callable[[Any], T], kind: str, subject: str = "listing"
    ) -> Iterator[T]:
        """Yield the parsed items of a listing, whose pages are requested on demand.

        `target` is the path and query of page 1. `kind` and `subject` are for error messages.
        """
        path, mark, first_query = target.partition("?")
        query: str | None = mark + first_query
        while query is not None:
            entries, query = answers.listed(self.request("GET", path + query), subject)
            try:
                items = [parse(entry) for entry in entries]
            except (AttributeError, KeyError, TypeError, ValueError, InvalidPath) as error:
                raise UnexpectedAnswer(f"the server returned an invalid {kind}: {error}") from error
            yield from items

    def cursor_items(
        self,
        path: str,
        query: Mapping[str, object],
        parse: Callable[[Any], T],
        subject: str,
        limit: int | None = None,
    ) -> Iterator[T]:
        """Yield at most `limit` parsed items of a listing whose pages are linked by cursors.

        `path` and `query` are the target of the first page. `subject` is used in error messages.
        """
        cursor: str | None = ""
        left = limit
        while cursor is not None and left != 0:
            target = target_of(path, {**query, "cursor": cursor or None})
            page, cursor = answers.page(self.request("GET", target), subject, parse)
            yield from page[:left]
            left = None if left is None else max(left - len(page), 0)
