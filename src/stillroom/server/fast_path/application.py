"""The parts of the application that the fast path calls without ASGI; one of each in a process."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillroom.api.images import ImageOperations
from stillroom.auth.verified import VerifiedTokens
from stillroom.server.fast_path.response_cache import Headers, ResponseCache

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True)
class Application:
    """What the fast path of every connection uses.

    Attributes:
        extra_headers: Of every response.
    """

    operations: ImageOperations
    tokens: VerifiedTokens
    responses: ResponseCache
    extra_headers: Headers


def application_of(server: "ServerState", app: "FastAPI", *, longest_target: int) -> Application:
    """The parts of an application, made once for all connections of a server."""
    application: Application | None = getattr(server, "application", None)
    if application is None:
        state = app.state
        extra_headers = (("vary", "Origin"),) if state.varies_by_origin else ()
        responses = ResponseCache(
            state.operations,
            state.tokens,
            longest_target=longest_target,
            extra_headers=extra_headers,
        )
        application = Application(state.operations, state.tokens, responses, extra_headers)
        server.application = application  # type: ignore[attr-defined]  # ours; uvicorn has no such hook
    return application
