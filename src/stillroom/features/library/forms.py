"""Request bodies and responses of the media library."""

import uuid
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic.config import JsonDict

from stillroom.features.metadata.operation import GenerationFacts
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.views import view_of
from stillroom.wire import media as wire
from stillroom.wire.shown import PATH_EXAMPLE

MAX_ITEMS: Final = 100
_MAX_BODY_BYTES: Final = 1024**2  # enough for `MAX_ITEMS` of the longest keys in JSON
_UNSET: Any = None  # for fields that must not be null; `model_fields_set` has the sent fields
_MAX_PIXELS: Final = 2**31 - 1
_LONGEST_S: Final = 10.0**9  # about thirty years


def _check_storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain U+0000, which PostgreSQL cannot store")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must not contain half of a surrogate pair, which UTF-8 cannot encode")
    return text


def _no_default(schema: JsonDict) -> None:
    """Remove the default from a schema. Generated clients would send the default as a change."""
    schema.pop("default", None)


Words = Annotated[str, Field(max_length=10_000), AfterValidator(_check_storable)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_check_storable)]
Pixels = Annotated[int, Field(ge=1, le=_MAX_PIXELS)]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False)]
Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$"), AfterValidator(str.lower)]


class ImageToIngest(JsonForm, max_bytes=_MAX_BODY_BYTES, example='{"storage_key": "…"}'):
    """Request body: image to ingest into the media library."""

    storage_key: str = Field(
        description="`compute/` and the image's path", examples=[f"compute/{PATH_EXAMPLE}"]
    )
    relocate: bool = Field(
        default=True,
        description="Copy it to a key of its own and delete the source later (the token needs the "
        "scope `storage:delete`); otherwise record it in place.",
    )


class ImagesToIngest(JsonForm):
    """Request body: several images to ingest. The response has a result for each image."""

    items: list[ImageToIngest] = Field(min_length=1, max_length=MAX_ITEMS)


class ResourceChange(JsonForm, max_bytes=_MAX_BODY_BYTES, example='{"caption": "…"}'):
    """Request body: properties to change. Omitted properties are kept; null removes a value."""

    alt_text: Words | None = Field(default=None, examples=["A cat on a sill"])
    caption: Words | None = Field(default=None, examples=["Tom, in the morning"])
    protected: bool = Field(default=False, description="a protected resource is not deleted")
    dominant_color: Color | None = Field(default=None, examples=["#8a6d3b"])
    width: Pixels = Field(default=_UNSET, json_schema_extra=_no_default)
    height: Pixels = Field(default=_UNSET, json_schema_extra=_no_default)
    duration: Seconds | None = Field(default=None, description="seconds", examples=[4.5])
    color_profile: Name | None = Field(default=None, examples=["sRGB"])


@view_of(
    wire.MediaResource,
    wire.RESOURCE_FIELDS,
    id=uuid.UUID,
    resource_type=Literal["image", "video"],
    url=str,
    width=int,
    height=int,
    generation=GenerationFacts | None,
    tags=list[str],
)
class MediaResourceView(BaseModel):
    """Image or video of the library."""


class IngestedImage(BaseModel):
    """Image that was ingested, with its resource."""

    storage_key: str = Field(description="key in the request", examples=[f"compute/{PATH_EXAMPLE}"])
    resource: MediaResourceView


class RefusedImage(BaseModel):
    """Image that was not ingested, with the reason."""

    storage_key: str = Field(examples=["compute/generations/1/none.png"])
    detail: str = Field(examples=["no such image"])
    code: str = Field(description="stable; branch on this", examples=["not_found"])


class IngestResults(BaseModel):
    """Result for each image, in the order of the request body."""

    results: list[IngestedImage | RefusedImage]


class DeletedResource(BaseModel):
    """Id of the resource that was removed from the library."""

    id: uuid.UUID
