"""Routes and hooks that respond 501 to requests for a feature that is off."""

from dataclasses import dataclass, make_dataclass
from typing import ClassVar
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response

from stillroom.errors import FeatureOff
from stillroom.paths import StorageKey
from stillroom.store.api.call import Call
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.operation import OperationRoute
from stillroom.store.auth.grants import Authorize
from stillroom.store.hooks import Finish, RequestHeader
from stillroom.store.http.fields import Fields

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def feature_off(name: str, reason: str) -> FeatureOff:
    """Return the error for a request that needs the feature `name` while it is off."""
    return FeatureOff(f"this server runs without the feature {name!r}: {reason}")


def off_router(prefix: str, name: str, reason: str, authorize: Authorize) -> APIRouter:
    """Return a router that responds 501 to all requests below `prefix`, after the token check."""
    router = APIRouter(prefix=prefix, include_in_schema=False, route_class=OperationRoute)

    async def refuse(request: Request) -> Response:
        await Call.of(request, authorize)
        raise feature_off(name, reason)

    for path in ("", "/{path:image_path}"):
        router.add_api_route(path, refuse, methods=_METHODS, name=f"{name}_off")
    return router


@dataclass(frozen=True, slots=True)
class OffHook:
    """Hook that responds 501 to saves and reads that use a feature that is off."""

    query: ClassVar[type] = make_dataclass("NoParameters", ())
    name: str
    reason: str
    header_names: tuple[str, ...] = ()  # headers of saves that use the feature
    parameters: tuple[str, ...] = ()  # query parameters of reads that use the feature

    @property
    def headers(self) -> tuple[RequestHeader, ...]:
        """Headers of saves that use the feature."""
        return tuple(RequestHeader(name, "", "") for name in self.header_names)

    async def prepare(self, fields: Fields) -> Finish | None:
        """Raise `FeatureOff` if a save has one of the headers."""
        if any(name.lower() in fields for name in self.header_names):
            raise feature_off(self.name, self.reason)
        return None

    async def respond(
        self, call: Call, key: StorageKey, operations: ImageOperations
    ) -> Response | None:
        """Raise `FeatureOff` if a read has one of the parameters."""
        del key, operations
        names = {name for name, _ in parse_qsl(call.raw_query.decode("latin-1"), True)}
        if not names.isdisjoint(self.parameters):
            raise feature_off(self.name, self.reason)
        return None
