"""Sender that retries failed requests."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.requests import json_call
from stillroom.client.retries import Attempts, Retries
from stillroom.errors import InvalidPath

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
        """Send a request, with retries, and return the response, which may be an error response."""
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

    def items(
        self, target: str, parse: Callable[[Any], T], kind: str, subject: str = "listing"
    ) -> Iterator[T]:
        """Yield the parsed items of a listing. Pages are requested as needed, first `target`.

        `kind` and `subject` are used in error messages.
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
