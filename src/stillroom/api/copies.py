"""Copying an image under another path, without its bytes passing through the client."""

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route

from stillroom.api.authorize import Authorize, authenticate
from stillroom.api.document import BEARER, PATH_EXAMPLE, extra, refusals
from stillroom.api.images import MethodNotAllowed, SavedImage, json_answer, saved_answer
from stillroom.api.operation import OperationRoute, in_form, json_object, require_literal_route
from stillroom.errors import InvalidParameter, InvalidPath
from stillroom.http.fields import combined
from stillroom.http.serving import write_condition
from stillroom.paths import ImagePath, StorageKey
from stillroom.storage.port import ImageStorage

MAX_BODY_BYTES: Final = 32 * 1024
"""Two of the longest paths, most of their characters escaped, fit."""


class ImageToCopy(BaseModel):
    """One image, and the path that it gets as well."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str = Field(examples=[PATH_EXAMPLE])
    target: str = Field(examples=["copies/cat.png"])


@dataclass(frozen=True, slots=True)
class Copies:
    """The one operation over one storage.

    Attributes:
        storage: Where the bytes are.
        authorize: Who is asking.
        public_url: What `/<path>` is put behind to make an image's public URL.
    """

    storage: ImageStorage
    authorize: Authorize
    public_url: str

    async def copy_image(
        self,
        request: Request,
        wanted: ImageToCopy = Body(),  # noqa: B008  (for the document, as in images.py)
    ) -> Response:
        """Copy image to another path, replacing what is there."""
        del wanted
        require_literal_route(request)
        fields = combined(request.headers.raw)
        grant = await authenticate(self.authorize, fields)
        grant.require_scope("storage:read")
        grant.require_scope("storage:write")
        given = await json_object(
            request, fields, max_bytes=MAX_BODY_BYTES, example='{"source": "…", "target": "…"}'
        )
        asked = in_form(ImageToCopy, given)
        source, target = _path(asked.source, "source"), _path(asked.target, "target")
        if source == target:
            raise InvalidParameter("source and target are the same", at=("body", "target"))
        if write_condition(fields).is_set:
            # Looked past, it would be a replacement that its sender wanted to guard.
            raise InvalidParameter("a copy takes no condition", at=("header", "if-match"))
        grant.require("storage:read", source)
        grant.require("storage:write", target)

        image = await self.storage.copy(StorageKey.of_image(source), StorageKey.of_image(target))
        return json_answer(saved_answer(image, target, self.public_url))


def copies_router(copies: Copies) -> APIRouter:
    """The route of the one operation, `/storage/copy`."""
    router = APIRouter(
        prefix="/storage/copy",
        tags=["Storage"],
        route_class=OperationRoute,
        dependencies=[BEARER],
    )
    router.add_api_route(
        "",
        copies.copy_image,
        methods=["POST"],
        response_model=SavedImage,
        responses=refusals(401, 403, 404, 409, 413, 415, 503, 507),
        openapi_extra=extra(),
    )
    router.routes.append(Route("/storage/copy", MethodNotAllowed("POST")))
    return router


def _path(text: str, field: str) -> ImagePath:
    try:
        return ImagePath.parse(text)
    except InvalidPath as error:
        raise InvalidPath(str(error), at=("body", field)) from error
