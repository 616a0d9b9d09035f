"""Signatures of webhooks (Standard Webhooks 1.0.0, symmetric scheme `v1`).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (the beginning of every secret)

_MIN_BYTES, _MAX_BYTES = 24, 64  # length of a secret; limits in the specification


def parse_secret(text: str) -> bytes:
    """Parse a secret: `whsec_` and the Base64 of 24 to 64 random bytes.

    Raises ValueError with a message that does not contain the secret.
    """
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(f"does not begin with {SECRET_PREFIX}")
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        # Receivers accept secrets without padding, too.
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise ValueError(f"is not Base64 after {SECRET_PREFIX}") from None
    if not _MIN_BYTES <= len(secret) <= _MAX_BYTES:
        raise ValueError(f"has {len(secret)} bytes: {_MIN_BYTES} to {_MAX_BYTES} are required")
    return secret


def signed_headers(
    secrets: Sequence[bytes], event_id: str, body: bytes, *, at: int
) -> Mapping[str, str]:
    """Return the headers of one attempt to deliver a webhook, with one signature per secret.

    `at` is the time of the attempt in seconds since the epoch.
    """
    content = b".".join((event_id.encode(), str(at).encode(), body))
    digests = [hmac.digest(secret, content, "sha256") for secret in secrets]
    signatures = [f"v1,{base64.b64encode(digest).decode()}" for digest in digests]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }
