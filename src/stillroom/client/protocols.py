"""Protocols of the objects that send the requests of operations and return the results."""

from typing import Protocol, TypeVar

from stillroom.client.exchange import Answer, Call, Failure, Flow

T = TypeVar("T")


class Sends(Protocol):
    """Protocol of senders, which send requests and return the responses."""

    def send(self, call: Call) -> Answer | Failure:
        """Send a request and return the response or the failure.

        Raises:
            ConfigurationError: The request is invalid, so a retry cannot help.
        """
        ...

    def close(self) -> None:
        """Close all connections. The sender can still be used: it connects again."""
        ...


class FlowRunner(Protocol):
    """Protocol of a function that runs an operation: sends its requests and returns its result."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Run an operation and return its result."""
        ...
