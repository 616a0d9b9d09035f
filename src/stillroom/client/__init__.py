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
from stillroom.client.values import DownloadedImage, HealingProgress, Lifetime, Outcome, Progress
from stillroom.wire.events import Event
from stillroom.wire.facets import FacetCount, Facets
from stillroom.wire.generation import Generation, Lora
from stillroom.wire.images import Folder, FoundImage, ImageInfo, ImageMetadata, SavedImage
from stillroom.wire.media import MediaResource
from stillroom.wire.runs import DeletedRun, PublishedRun, RunImage, RunInfo
from stillroom.wire.trash import TrashedImage
from stillroom.wire.uploads import UploadGrant

__all__ = ["AsyncImageStore", "AsyncRun", "DeletedRun", "DownloadedImage", "Encoding", "Event"]
__all__ += ["FacetCount", "Facets", "Folder", "FoundImage", "Generation", "HealingProgress"]
__all__ += ["ImageInfo", "ImageMetadata", "ImageStore", "Lifetime", "Lora", "MediaResource"]
__all__ += ["Outcome", "Progress"]
__all__ += ["PublishedRun", "Run", "RunImage", "RunInfo", "SavedImage", "ServerUnreachable"]
__all__ += ["SomeFailed", "Source", "TrashedImage", "UnexpectedAnswer", "UploadGrant", "from_float"]
