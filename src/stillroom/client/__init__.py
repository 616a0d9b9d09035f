"""The SDK: `ImageStore`, and `AsyncImageStore` with the same names and promises.

store = ImageStore("http://127.0.0.1:8000", token)
store.save("generations/1/cat.png", Path("cat.png"))
"""

from stillroom.client.asynchronous import AsyncImageStore
from stillroom.client.errors import ServerUnreachable, SomeFailed, UnexpectedAnswer
from stillroom.client.sources import Source
from stillroom.client.sync import ImageStore
from stillroom.client.values import (
    DownloadedImage,
    Folder,
    ImageInfo,
    MediaResource,
    Outcome,
    Progress,
    SavedImage,
)

__all__ = [
    "AsyncImageStore",
    "DownloadedImage",
    "Folder",
    "ImageInfo",
    "ImageStore",
    "MediaResource",
    "Outcome",
    "Progress",
    "SavedImage",
    "ServerUnreachable",
    "SomeFailed",
    "Source",
    "UnexpectedAnswer",
]
