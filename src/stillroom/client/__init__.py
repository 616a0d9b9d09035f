"""Python SDK: `ImageStore`, and `AsyncImageStore` with the same methods and guarantees.

store = ImageStore("http://127.0.0.1:8000", token)
store.save("generations/1/cat.png", Path("cat.png"))
"""

from stillroom.client.async_runs import AsyncRun
from stillroom.client.asynchronous import AsyncImageStore
from stillroom.client.encoding import Encoding, from_float
from stillroom.client.errors import ServerUnreachable, SomeFailed, UnexpectedAnswer
from stillroom.client.runs import Run
from stillroom.client.sources import Source
from stillroom.client.sync import ImageStore
from stillroom.client.values import (
    DeletedRun,
    DownloadedImage,
    Event,
    FacetCount,
    Facets,
    Folder,
    FoundImage,
    HealingProgress,
    ImageInfo,
    ImageMetadata,
    Lifetime,
    MediaResource,
    Outcome,
    Progress,
    PublishedRun,
    RunImage,
    RunInfo,
    SavedImage,
    TrashedImage,
    UploadGrant,
)
from stillroom.wire.generation import Generation, Lora

__all__ = ["AsyncImageStore", "AsyncRun", "DeletedRun", "DownloadedImage", "Encoding", "Event"]
__all__ += ["FacetCount", "Facets", "Folder", "FoundImage", "Generation", "HealingProgress"]
__all__ += [
    "ImageInfo",
    "ImageMetadata",
    "ImageStore",
    "Lifetime",
    "Lora",
    "MediaResource",
    "Outcome",
    "Progress",
]
__all__ += ["PublishedRun", "Run", "RunImage", "RunInfo", "SavedImage", "ServerUnreachable"]
__all__ += ["SomeFailed", "Source", "TrashedImage", "UnexpectedAnswer", "UploadGrant", "from_float"]
