"""JSON response about a deleted image or run."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from stillroom.wire.shown import ID_EXAMPLE, PATH_EXAMPLE, TIME_EXAMPLE, Shown, Size


@dataclass(frozen=True, slots=True)
class TrashedImage:
    """Deleted image or run in the trash. Times are timezone-aware."""

    id: Annotated[str, Shown("opaque", (ID_EXAMPLE,))]
    path: Annotated[str, Shown("path of an image, or folder of a run", (PATH_EXAMPLE,))]
    size: Size
    content_type: Annotated[str | None, Shown("null for a run", ("image/png",))]
    deleted_at: Annotated[datetime, Shown("", (TIME_EXAMPLE,))]
    purge_at: Annotated[datetime, Shown("when it is deleted for good", (TIME_EXAMPLE,))]
    actor: Annotated[str | None, Shown("`sub` of the token; null if unknown", ("user-7",))]
    count: Annotated[int | None, Shown("images of a run; null for an image")] = None
