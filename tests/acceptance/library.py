"""Calls of the media library over HTTP."""

import uuid
from typing import Any

import httpx

from pictures import picture
from running import IMAGES

LIBRARY = "/api/v1/media-resources"
KEEPS = ("--scope", "media", "--scope", "storage:delete")


def unique(form: str = "PNG") -> bytes:
    """An image that no other test has."""
    return picture(uuid.uuid4().int, form)


def save(client: httpx.Client, path: str, data: bytes) -> str:
    assert client.post(f"{IMAGES}/{path}", files={"file": data}).status_code == 200
    return f"compute/{path}"


def ingest(client: httpx.Client, key: str, **more: Any) -> httpx.Response:
    return client.post(f"{LIBRARY}/ingest", json={"storage_key": key, **more})


def settled(resource: Any) -> Any:
    """All but the colour, which comes in the background."""
    return {name: value for name, value in resource.items() if name != "dominant_color"}
