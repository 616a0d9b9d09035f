"""Protocols of the objects that send the requests of operations."""

from typing import Protocol, TypeVar

from stillroom.client.exchange import Answer, Call, Failure, Flow

T = TypeVar("T")


class Sends(Protocol):
    """Transport protocol: sends requests and returns responses."""

    def send(self, call: Call) -> Answer | Failure:
        """Send a request and return the response or the failure.

        Raises:
            ConfigurationError: The request is invalid, so a retry cannot help.
        """
        ...

    def close(self) -> None:
        """Close all connections. The sender may be used again."""
        ...


class FlowRunner(Protocol):
    """Function that sends the requests of a flow and returns its result."""

    def __call__(self, flow: Flow[T], /) -> T:
        """Run a flow."""
        ...
