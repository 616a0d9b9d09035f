"""HTTP operation that copies an image to another path on the server."""

from dataclasses import dataclass

from fastapi import Request, Response
from pydantic import Field

from stillroom.errors import InvalidParameter
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.images import ImageOperations, SavedImage
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.http.serving import write_condition
from stillroom.wire.shown import PATH_EXAMPLE


# `max_bytes` is enough for two of the longest paths with JSON escapes.
class ImageToCopy(JsonForm, max_bytes=32 * 1024, example='{"source": "…", "target": "…"}'):
    """Request body: path of the image to copy, and path of the new copy."""

    source: str = Field(examples=[PATH_EXAMPLE])
    target: str = Field(examples=["copies/cat.png"])


@dataclass(frozen=True, slots=True)
class Copies:
    """Operation that copies an image."""

    images: ImageOperations

    @Operation("POST", "", (404, 409, 503, 507), body=ImageToCopy, answer=SavedImage)
    async def copy_image(self, request: Request) -> Response:
        """Copy an image to another path on the server. If an image exists there, it is replaced."""
        call = await Call.of(request, self.images.authorize)
        call.grant.require_scope("storage:read")
        call.grant.require_scope("storage:write")
        body = await call.json(ImageToCopy)
        source = ImagePath.parse(body.source, at=("body", "source"))
        target = ImagePath.parse(body.target, at=("body", "target"))
        if source == target:
            raise InvalidParameter("source and target are the same path", at=("body", "target"))
        if write_condition(call.fields).is_set:
            # An ignored condition could replace an image that the client wanted to protect.
            raise InvalidParameter(
                "a copy supports neither If-Match nor If-None-Match", at=("header", "if-match")
            )
        call.grant.require("storage:read", source)
        call.grant.require("storage:write", target)

        copy = self.images.storage.copy
        image = await copy(StorageKey.of_image(source), StorageKey.of_image(target))
        return json_answer(self.images.saved_json(image, target))
