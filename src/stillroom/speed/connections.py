"""Factory with which uvicorn creates a `Connection` for each client."""

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillroom.speed.capabilities import RedirectsNow, ServesNow
from stillroom.speed.fast_path.reads import FastReads
from stillroom.speed.fast_path.responses import FileResponses, redirects
from stillroom.speed.fast_path.uploads import UPLOAD_ASGI_ONLY_FIELDS, FastUploads
from stillroom.speed.http11 import asgi
from stillroom.speed.http11.connection import Connection
from stillroom.speed.http11.head import header_lines
from stillroom.speed.http11.service import Service
from stillroom.speed.settings import SpeedSettings

if TYPE_CHECKING:
    from starlette.datastructures import State
    from uvicorn import Config
    from uvicorn.server import ServerState


@dataclass(slots=True, repr=False)
class ConnectionFactory:
    """Factory of connections (uvicorn's `http` option). Each worker process gets a pickled copy."""

    settings: SpeedSettings
    _service: Service | None = None

    def __call__(
        self, config: "Config", server_state: "ServerState", app_state: dict[str, Any], **_: object
    ) -> Connection:
        """Create a connection. The first call in a process also creates the shared state."""
        if self._service is None:
            app: Any = config.loaded_app
            self._service = Service(
                loop=asyncio.get_running_loop(),
                settings=self.settings,
                connections=server_state.connections,  # type: ignore[arg-type]  # uvicorn declares its own classes
                tasks=server_state.tasks,
                begin=functools.partial(asgi.begin, app, app_state),
            )
            if self.settings.fast_path:
                self._add_fast_path(self._service, app.state)
        return Connection(self._service)

    def _add_fast_path(self, service: Service, state: "State") -> None:
        operations, tokens = state.operations, state.tokens
        headers = (("vary", "Origin"),) if state.varies_by_origin else ()
        asgi_only = UPLOAD_ASGI_ONLY_FIELDS | operations.hooks.save_fields
        service.begin = FastUploads(operations, tokens, headers, service.begin, asgi_only).begin
        storage, last_lines = operations.storage, header_lines(headers) + b"\r\n"
        longest = self.settings.max_target_bytes
        reads = functools.partial(FastReads, operations, tokens, longest_target=longest)
        if isinstance(storage, ServesNow):
            cache_bytes = self.settings.response_cache_bytes
            files = FileResponses(storage, operations, last_lines, cache_bytes=cache_bytes)
            service.fast_path = reads(files.find, files.forget)
        elif isinstance(storage, RedirectsNow):
            service.fast_path = reads(redirects(storage, last_lines))
