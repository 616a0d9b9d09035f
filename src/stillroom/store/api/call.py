"""Authenticated request. Its methods check the path and the permission, and read the body."""

import uuid
from dataclasses import dataclass
from inspect import isawaitable
from typing import Self

from fastapi import Request

from stillroom.paths import ImagePath
from stillroom.store.api.forms import Form, JsonForm, read_json, validate
from stillroom.store.api.operation import raw_image_path
from stillroom.store.auth.grants import Authorize, Grant, Scope
from stillroom.store.causes import note_actor
from stillroom.store.http.fields import Fields, combined
from stillroom.store.http.parameters import Query, read_query, resource_id


async def authenticate(authorize: Authorize, fields: Fields) -> Grant:
    """Return the permissions of a request's token, or raise `Unauthenticated` or `TokenExpired`.

    Events that the request causes will name the token's subject as their actor.
    """
    grant: object = authorize(fields.get("authorization"))
    if isawaitable(grant):
        grant = await grant
    if not isinstance(grant, Grant):
        raise TypeError(f"authorize= must return a stillroom.auth.grants.Grant, not {type(grant)}")
    note_actor(grant.subject)
    return grant


@dataclass(frozen=True, slots=True)
class Call:
    """Request with a valid token, with its header fields and the permissions of the token."""

    request: Request
    fields: Fields
    grant: Grant

    @classmethod
    async def of(cls, request: Request, authorize: Authorize) -> Self:
        """Check the token of a request, or raise `Unauthenticated` or `TokenExpired`."""
        fields = combined(request.headers.raw)
        return cls(request, fields, await authenticate(authorize, fields))

    def image_path(self, scope: Scope) -> ImagePath:
        """Return the image path in the URL. Raise `Forbidden` if the token lacks `scope` for it."""
        path = ImagePath.from_target(raw_image_path(self.request))
        self.grant.require(scope, path)
        return path

    def path_id(self, name: str) -> uuid.UUID:
        """Return the path parameter `name` as a UUID."""
        return resource_id(self.request.path_params[name], ("path", name))

    @property
    def raw_query(self) -> bytes:
        """Query string as raw bytes."""
        return bytes(self.request.scope["query_string"])

    def query(self, kind: type[Query]) -> Query:
        """Parse the query string into an instance of the dataclass `kind`; see `read_query`."""
        return read_query(self.raw_query, kind)

    @property
    def has_body(self) -> bool:
        """Return whether the request has a body (RFC 9112, 6.3)."""
        return "transfer-encoding" in self.fields or int(self.fields.get("content-length", "0")) > 0

    async def json_object(self, form: type[JsonForm]) -> dict[str, object]:
        """Return the body as a JSON object whose fields are not validated; see `read_json`."""
        return await read_json(self.request, self.fields, form)

    async def json(self, form: type[Form]) -> Form:
        """Return the JSON body as a valid instance of `form`, or raise `InvalidParameter`."""
        return validate(form, await self.json_object(form))
