"""The store that the nodes speak to: `STILLROOM_URL` and `STILLROOM_TOKEN` of ComfyUI's process.

They are no inputs of the nodes, since a workflow has all inputs in it, and each image the workflow.
"""

import functools
import os
from typing import Final

from stillroom.client import ImageStore

DEADLINE_S: Final = 20
"""For a server that answers and cannot: images that wait for it are kept locally then."""

CONNECT_DEADLINE_S: Final = 5
"""For a server that is not there."""

NOT_CONFIGURED: Final = (
    "set STILLROOM_URL and STILLROOM_TOKEN in the environment that ComfyUI is started in"
)


def is_configured() -> bool:
    """Whether the environment says where the server is, and has a token for it."""
    return bool(os.environ.get("STILLROOM_URL") and os.environ.get("STILLROOM_TOKEN"))


def store() -> ImageStore:
    """One store for all nodes: it keeps its connections."""
    return _store(os.environ.get("STILLROOM_URL", ""), os.environ.get("STILLROOM_TOKEN", ""))


@functools.lru_cache(maxsize=1)
def _store(url: str, token: str) -> ImageStore:
    return ImageStore(
        url, token, deadline_s=DEADLINE_S, connect_deadline_s=CONNECT_DEADLINE_S, timeout_s=60
    )
