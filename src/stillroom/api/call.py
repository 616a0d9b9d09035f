"""One request to the API as its operation sees it, in the order of checks of ADR 0004.

The route has been checked by `OperationRoute`. A `Call` is made once the token has been; then it
gives the path with the right to it, and then the body. Nothing is looked up, and nothing of a body
is read, before the checks ahead of it have passed.
"""

import uuid
from dataclasses import dataclass
from typing import Self

from fastapi import Request

from stillroom.api.forms import Form, JsonForm, in_form, read_json
from stillroom.api.operation import raw_image_path
from stillroom.auth.grants import Authorize, Grant, Scope
from stillroom.errors import InvalidPath
from stillroom.http.fields import Fields, combined
from stillroom.http.parameters import resource_id
from stillroom.paths import ImagePath, StorageKey


async def authenticate(authorize: Authorize, fields: Fields) -> Grant:
    """Authenticate a request by its header fields.

    Raises:
        Unauthenticated: for every reason the same, but for `TokenExpired`.
    """
    answer = authorize(fields.get("authorization"))
    return answer if isinstance(answer, Grant) else await answer


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose sender is known.

    Attributes:
        request: As it came.
        fields: Its header fields.
        grant: What its sender may do.
    """

    request: Request
    fields: Fields
    grant: Grant

    @classmethod
    async def of(cls, request: Request, authorize: Authorize) -> Self:
        """A request with a token.

        Raises:
            Unauthenticated: for every reason the same, but for `TokenExpired`.
        """
        fields = combined(request.headers.raw)
        return cls(request, fields, await authenticate(authorize, fields))

    def image_path(self, scope: Scope) -> ImagePath:
        """The path of the image, for which the sender has the right `scope`.

        Raises:
            InvalidPath, Forbidden: in this order.
        """
        path = ImagePath.from_target(raw_image_path(self.request))
        self.grant.require(scope, path)
        return path

    def run_folder(self, *scopes: Scope, ends: str = "") -> ImagePath:
        """The folder of a run, for which the sender has the rights `scopes`.

        Args:
            scopes: The rights.
            ends: What follows it in the route.

        Raises:
            InvalidPath, Forbidden: in this order.
        """
        try:
            folder = ImagePath.from_target(raw_image_path(self.request, ends=ends))
            StorageKey.of_manifest(folder)
        except InvalidPath as error:
            raise InvalidPath(str(error), at=("path", "folder")) from error
        for scope in scopes:
            self.grant.require_folder(scope, folder)
        return folder

    def path_id(self, name: str) -> uuid.UUID:
        """The id that the path has as its parameter `name`.

        Raises:
            InvalidParameter: it is none.
        """
        return resource_id(self.request.path_params[name], ("path", name))

    @property
    def query(self) -> bytes:
        """As it came."""
        return bytes(self.request.scope["query_string"])

    @property
    def has_body(self) -> bool:
        """Whether a body comes with the request (RFC 9112, 6.3)."""
        return "transfer-encoding" in self.fields or int(self.fields.get("content-length", "0")) > 0

    async def json_object(self, form: type[JsonForm]) -> dict[str, object]:
        """The body as a JSON object, within the bounds of `form`, for operations with two forms.

        Raises:
            InvalidParameter, TooLarge, UnsupportedMedia: as `read_json` says.
        """
        return await read_json(self.request, self.fields, form)

    async def json(self, form: type[Form]) -> Form:
        """The body, in this form.

        Raises:
            InvalidParameter, TooLarge, UnsupportedMedia: as `read_json` and `in_form` say.
        """
        return in_form(form, await self.json_object(form))
