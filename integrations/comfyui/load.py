"""The node *Load Image from Stillroom*."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import httpx
import torch

from stillroom.client import MediaResource
from stillroom.client.connection import Connection
from stillroom.client.exchange import Call
from stillroom.errors import DigestMismatch, StillroomError
from stillroom.paths import COMPUTE_PREFIX

from .connection import NOT_CONFIGURED, is_configured, store
from .pixels import decoded

_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_FETCH_TIMEOUT_S: Final = 60


class LoadImageFromStillroom:
    """Load an image by its path, by a resource's id, or by a resource's SHA-256."""

    CATEGORY = "image/stillroom"
    DESCRIPTION = "Loads an image from a Stillroom server: by path, resource id or SHA-256."
    FUNCTION = "load"
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS: ClassVar = ("The image.", "Where it is transparent.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802  (ComfyUI's name)
        """The inputs, as ComfyUI's page shows them."""
        hint = "A path such as comfyui/cat.png, or a resource's id or SHA-256."
        return {"required": {"image": ("STRING", {"default": "", "tooltip": hint})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: object) -> bool | str:  # noqa: N802  (ComfyUI's name)
        """Refuse early what cannot be loaded."""
        if not is_configured():
            return NOT_CONFIGURED
        if image is None or (isinstance(image, str) and image.strip()):
            return True
        return "name an image: its path, or a resource's id or SHA-256"

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:  # noqa: N802  (ComfyUI's name)
        """Its hash: as long as that is the same, ComfyUI uses what it has loaded."""
        return _found(image.strip()).version

    def load(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The image and its mask.

        Raises:
            RuntimeError: in one sentence why it cannot be had.
        """
        try:
            pictures, masks = decoded(_found(image.strip()).read())
        except (StillroomError, httpx.HTTPError, OSError) as error:
            raise RuntimeError(f"cannot load {image!r} from Stillroom: {error}") from error
        return torch.from_numpy(pictures), torch.from_numpy(masks)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is meant, and how to read it.

    Attributes:
        version: Changes when the bytes do.
    """

    version: str
    read: Callable[[], bytes]


def _found(image: str) -> _Found:
    if _UUID.fullmatch(image):
        return _resource(store().media.get(image))
    if _SHA256.fullmatch(image):
        for resource in store().media.list(content_hash=image.lower()):
            if resource.content_hash == image.lower():
                return _resource(resource)
        raise RuntimeError("no image of the media library has this SHA-256")
    found = store().stat(image)
    return _Found(found.sha256 or found.etag, lambda: store().read(image))


def _resource(resource: MediaResource) -> _Found:
    return _Found(resource.content_hash, lambda: _checked(resource))


def _checked(resource: MediaResource) -> bytes:
    """The bytes of a resource; what is recorded in place may be another image by now."""
    if resource.storage_key.startswith(COMPUTE_PREFIX):
        content = store().read(resource.storage_key.removeprefix(COMPUTE_PREFIX))
    else:
        content = _fetched(resource)
    if hashlib.sha256(content).hexdigest() != resource.content_hash:
        raise DigestMismatch("the bytes that came are others than those that were ingested")
    return content


def _fetched(resource: MediaResource) -> bytes:
    """The bytes of a resource; where they are in a bucket, the server leads there."""
    call = Call("GET", f"/media-resources/{resource.id}/file")
    server = Connection.to(None, None)
    answer = httpx.get(  # which sends the token to no other host
        server.url(call),
        headers=server.fields(call),
        follow_redirects=True,
        timeout=_FETCH_TIMEOUT_S,
    )
    answer.raise_for_status()
    return answer.content
