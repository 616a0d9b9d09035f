"""Signed URLs, with which a client can read one image without a token until the URL expires.

`/{path}?{other parameters}&expires={seconds}&kid={key id}&signature={43 characters}`

The signature is computed from the raw bytes of the path and the parameters, without decoding them.
So a path that is percent-encoded differently needs another signature (docs/adr/0007).
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.errors import Unauthenticated
from stillroom.paths import ImagePath
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.keys import check_secrets

# Maximum lifetime of a signed URL in seconds, as in S3:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
MAX_LIFE_S: Final = 7 * 24 * 3600

READER: Final = Grant(frozenset(["storage:read"]))
"""Permission to read. Requests with a signed URL have it, and all requests if images are public."""

ARCHIVE: Final = ImagePath("archive")  # last segment and purpose of signed URLs of ZIP files
_CONTEXT: Final = b"stillroom signed url v1"
_KID_BYTES: Final = 8
_KEY_BYTES: Final = 32
_REFUSED: Final = "this link has expired or was changed: ask for a new one"
_IS_SIGNED: Final = re.compile(rb"(?:^|&)signature=")
_SIGNED_QUERY: Final = re.compile(
    rb"(?:(?P<others>[\x21-\x7e]+)&)?expires=(?P<expires>[1-9][0-9]{0,11})"
    rb"&kid=(?P<kid>[0-9a-f]{16})&signature=(?P<signature>[A-Za-z0-9_-]{43})"
)
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """Signed URL, without the base URL of the server."""

    target: str  # percent-encoded path and query, without a slash at the beginning
    expires_at: int  # epoch seconds


class UrlSigner:
    """Signer and verifier of URLs. The first secret signs URLs, and all secrets verify them."""

    def __init__(self, secrets: Sequence[str], *, now: Callable[[], float] = time.time) -> None:
        check_secrets(secrets)
        keys = [_derive(secret.encode()) for secret in secrets]
        self._kid, self._key = keys[0]
        self._keys = dict(reversed(keys))
        self._now = now

    def sign(
        self, path: ImagePath, *, valid_for_s: int, parameters: str = "", purpose: str = "GET"
    ) -> SignedUrl:
        """Sign a URL for reading an image, which need not exist.

        The caller has checked the permission. The URL is valid for 1 to `MAX_LIFE_S` seconds.
        `parameters` are further query parameters, percent-encoded.
        """
        if not 1 <= valid_for_s <= MAX_LIFE_S:
            raise ValueError(
                f"a signed URL must be valid for 1 to {MAX_LIFE_S} seconds, not {valid_for_s}"
            )
        expires_at = int(self._now()) + valid_for_s
        return SignedUrl(self.sign_for(purpose, path.quoted(), expires_at, parameters), expires_at)

    def sign_for(self, purpose: str, name: str, expires_at: int, parameters: str) -> str:
        """Return `{name}?{query}`, signed for one purpose until `expires_at` (epoch seconds)."""
        expires, others = str(expires_at).encode(), parameters.encode("ascii")
        signed = (purpose.encode(), name.encode("ascii"), others, expires, self._kid)
        signature = _signature(self._key, *signed).decode()
        query = f"expires={expires_at}&kid={self._kid.decode()}&signature={signature}"
        if parameters:
            query = f"{parameters}&{query}"
        return f"{name}?{query}"

    def check(self, raw_path: bytes, query: bytes, *, purpose: str = "GET") -> Grant:
        """Verify a signed URL. Return the permission to read, or raise `Unauthenticated`."""
        _, expires_at = self.check_for(purpose, raw_path, query)
        if expires_at <= self._now():
            raise Unauthenticated(_REFUSED)
        return READER

    def check_for(self, purpose: str, raw_path: bytes, query: bytes) -> tuple[bytes, int]:
        """Verify a signature. Return the other parameters and the expiration (epoch seconds).

        The caller must check the expiration. Raises `Unauthenticated` if the signature is invalid.
        """
        match = _SIGNED_QUERY.fullmatch(query)
        key = self._keys.get(match["kid"]) if match else None
        if match is None or key is None or not _VISIBLE.fullmatch(raw_path):
            raise Unauthenticated(_REFUSED)
        others, expires, kid, signature = match.group("others", "expires", "kid", "signature")
        expected = _signature(key, purpose.encode(), raw_path, others or b"", expires, kid)
        if not hmac.compare_digest(expected, signature):
            raise Unauthenticated(_REFUSED)
        return others or b"", int(expires)


def is_signed(query: bytes) -> bool:
    """Return whether a query contains a signature, valid or not."""
    return _IS_SIGNED.search(query) is not None


def _signature(key: bytes, *parts: bytes) -> bytes:
    # No part can contain a line feed, so different requests have different signed texts.
    digest = hmac.digest(key, b"\n".join((_CONTEXT, *parts)), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _derive(secret: bytes) -> tuple[bytes, bytes]:
    # HKDF with SHA-256, no salt, and one block for each label. The results do not reveal the
    # secret: https://www.rfc-editor.org/rfc/rfc5869#section-2
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, hashlib.sha256)
    kid, key = (
        hmac.digest(extracted, _CONTEXT + label + b"\x01", hashlib.sha256)
        for label in (b" key id", b" key")
    )
    return kid[:_KID_BYTES].hex().encode(), key[:_KEY_BYTES]
