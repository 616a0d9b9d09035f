"""Factory through which uvicorn creates connections that share state within a process."""

import asyncio
from typing import TYPE_CHECKING, Any

from stillroom.server.fast_path.reads import FastReads
from stillroom.server.fast_path.responses import FileResponses, FindResponse, redirects
from stillroom.server.fast_path.uploads import FastUploads
from stillroom.server.http11.asgi import AsgiPath
from stillroom.server.http11.bounds import Bounds
from stillroom.server.http11.connection import Connection
from stillroom.server.http11.responses import header_lines
from stillroom.server.http11.service import Service
from stillroom.settings import Settings
from stillroom.storage.capabilities import RedirectsNow, ServesNow

if TYPE_CHECKING:
    from starlette.datastructures import State
    from uvicorn import Config
    from uvicorn.server import ServerState


class ConnectionFactory:
    """Factory that creates connections (uvicorn's `http` option). Pickled for each worker."""

    def __init__(self, settings: Settings, bounds: Bounds) -> None:
        self._settings = settings
        self._bounds = bounds
        self._service: Service | None = None

    def __call__(
        self,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        **_: object,
    ) -> Connection:
        """Create a connection.

        The first call in a process also creates the state that connections share.
        """
        if self._service is None:
            app: Any = config.loaded_app
            asgi = AsgiPath(app, app_state)
            self._service = Service(
                loop=asyncio.get_running_loop(),
                bounds=self._bounds,
                connections=server_state.connections,  # type: ignore[arg-type]  # uvicorn's list of its own
                tasks=server_state.tasks,
                responder=asgi,
            )
            if self._settings.fast_path:
                self._add_fast_path(self._service, app.state, asgi)
        return Connection(self._service)

    def _add_fast_path(self, service: Service, state: "State", asgi: AsgiPath) -> None:
        operations, tokens = state.operations, state.tokens
        headers = (("vary", "Origin"),) if state.varies_by_origin else ()
        service.responder = FastUploads(operations, tokens, asgi, headers)
        storage, last_lines = operations.storage, header_lines(headers) + b"\r\n"
        find: FindResponse
        forget = None
        if isinstance(storage, ServesNow):
            cache_bytes = self._settings.response_cache_bytes
            files = FileResponses(storage, operations, last_lines, cache_bytes=cache_bytes)
            find, forget = files.find, files.forget
        elif isinstance(storage, RedirectsNow):
            find = redirects(storage, last_lines)
        else:
            return
        longest = self._bounds.target_bytes
        service.fast_path = FastReads(
            operations, tokens, find, forget=forget, longest_target=longest
        )
