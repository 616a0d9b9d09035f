"""Delivery of one webhook: a signed HTTP POST."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stillroom.features.events.address_lookup import AddressLookup
from stillroom.features.events.event import IMAGE_SAVED
from stillroom.features.events.signing import signed_headers
from stillroom.features.events.webhook_file import Endpoint
from stillroom.store.json_posts import TIMEOUT_S, Attempt, JsonPosts

MAX_BODY_BYTES: Final = 16 * 1024

SignUrl = Callable[[str, int], str]
"""Function that returns a signed URL. It takes an image's path and a lifetime in seconds."""


@dataclass(slots=True)
class Sender:
    """HTTP client that sends webhooks to one endpoint. `now` returns seconds since the epoch."""

    endpoint: Endpoint
    sign_url: SignUrl | None = None
    timeout_s: float = TIMEOUT_S
    now: Callable[[], float] = time.time
    _posts: JsonPosts = field(init=False)

    def __post_init__(self) -> None:
        self._posts = JsonPosts(
            self.endpoint.url,
            timeout_s=self.timeout_s,
            look_up=AddressLookup().addresses,
            now=self.now,
        )

    async def send(self, event: Mapping[str, Any]) -> Attempt:
        """Send an event, which is the JSON object in the body. Never raises an error."""
        body = encoded(self._completed(event))
        if len(body) > MAX_BODY_BYTES:
            return Attempt("too_large", f"the event has {len(body)} bytes in JSON")
        signed = signed_headers(self.endpoint.secrets, event["id"], body, at=int(self.now()))
        return await self._posts.send(body, signed)

    async def close(self) -> None:
        """Close all connections."""
        await self._posts.close()

    def _completed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with a signed URL, if the endpoint is configured to get one."""
        lifetime_s = self.endpoint.signed_urls
        if lifetime_s is None or self.sign_url is None or event["type"] != IMAGE_SAVED:
            return event
        url = self.sign_url(event["data"]["path"], lifetime_s)
        return {**event, "data": {**event["data"], "signed_url": url}}


def encoded(event: Mapping[str, Any]) -> bytes:
    """Return the JSON text of an event, which is signed and sent without any change."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
