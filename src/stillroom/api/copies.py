"""Copying an image under another path, without its bytes passing through the client."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import Request, Response
from pydantic import Field

from stillroom.api.call import Call
from stillroom.api.document import PATH_EXAMPLE
from stillroom.api.forms import JsonForm
from stillroom.api.images import SavedImage, saved_answer
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize
from stillroom.errors import InvalidParameter, InvalidPath
from stillroom.http.serving import write_condition
from stillroom.paths import ImagePath, StorageKey
from stillroom.storage.port import ImageStorage


class ImageToCopy(JsonForm):
    """One image, and the path that it gets as well."""

    MAX_BYTES: ClassVar = 32 * 1024  # two of the longest paths, most characters escaped, fit
    EXAMPLE: ClassVar = '{"source": "…", "target": "…"}'

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

    async def copy_image(self, request: Request) -> Response:
        """Copy image to another path, replacing what is there."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("storage:read")
        call.grant.require_scope("storage:write")
        asked = await call.json(ImageToCopy)
        source, target = _path(asked.source, "source"), _path(asked.target, "target")
        if source == target:
            raise InvalidParameter("source and target are the same path", at=("body", "target"))
        if write_condition(call.fields).is_set:
            # Ignored, it would let a copy replace what its sender wanted to protect.
            raise InvalidParameter(
                "a copy supports neither If-Match nor If-None-Match", at=("header", "if-match")
            )
        call.grant.require("storage:read", source)
        call.grant.require("storage:write", target)

        image = await self.storage.copy(StorageKey.of_image(source), StorageKey.of_image(target))
        return json_answer(saved_answer(image, target, self.public_url))


def copies_router(copies: Copies) -> OperationRouter:
    """The route of the one operation, `/storage/copy`."""
    router = OperationRouter("/storage/copy", tag="Storage")
    router.add(
        "",
        Operation(
            "POST",
            copies.copy_image,
            (401, 403, 404, 409, 413, 415, 503, 507),
            body=ImageToCopy,
            answer=SavedImage,
        ),
    )
    return router


def _path(text: str, field: str) -> ImagePath:
    try:
        return ImagePath.parse(text)
    except InvalidPath as error:
        raise InvalidPath(str(error), at=("body", field)) from error
