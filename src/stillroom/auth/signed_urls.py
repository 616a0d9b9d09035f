"""Signed URLs: each lets its holder read one image until it expires, for `<img>`.

`/{path}?{other parameters}&expires={seconds}&kid={key id}&signature={43 characters}`

What is signed is the request as it arrives: its raw path and its other parameters, byte
by byte, so nothing is decoded or sorted before the signature has been checked, and
another spelling of the same image is another URL. docs/adr/0007-signed-urls.md.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.auth.grants import Grant
from stillroom.auth.keys import check_secrets
from stillroom.errors import Unauthenticated
from stillroom.paths import ImagePath

MAX_LIFE_S: Final = 7 * 24 * 3600
"""As S3 has it: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html"""

READER: Final = Grant(frozenset(["storage:read"]))
"""What a good signature is worth, for the one path that it was checked with; and what every client
may do where images are public."""

_CONTEXT: Final = b"stillroom signed url v1"
_KID_BYTES: Final = 8
_KEY_BYTES: Final = 32

_IS_SIGNED: Final = re.compile(rb"(?:^|&)signature=")
_SIGNED_QUERY: Final = re.compile(
    rb"(?:(?P<others>[\x21-\x7e]+)&)?expires=(?P<expires>[1-9][0-9]{0,11})"
    rb"&kid=(?P<kid>[0-9a-f]{16})&signature=(?P<signature>[A-Za-z0-9_-]{43})"
)
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """What to put behind the address of the images.

    Attributes:
        target: Quoted path and query, without a leading slash.
        expires_at: Seconds since the epoch; from then on it is refused.
    """

    target: str
    expires_at: int


class UrlSigner:
    """Signs and checks URLs with keys derived from the token secrets."""

    def __init__(self, secrets: Sequence[str], *, now: Callable[[], float] = time.time) -> None:
        """Sign with the first of `secrets`, accept what any of them has signed.

        Raises:
            ConfigurationError: a secret is too short.
        """
        check_secrets(secrets)
        keys = [_derive(secret.encode()) for secret in secrets]
        self._kid, self._key = keys[0]
        self._keys = dict(reversed(keys))
        self._now = now

    def sign(self, path: ImagePath, *, valid_for_s: int, parameters: str = "") -> SignedUrl:
        """A URL to read the image at `path`, whether or not there is one.

        Args:
            path: Which the caller may read; that is not asked here.
            valid_for_s: 1 to `MAX_LIFE_S`.
            parameters: Of the GET that the URL is for, encoded; it is good for no others.
        """
        if not 1 <= valid_for_s <= MAX_LIFE_S:
            raise ValueError(f"valid for 1 to {MAX_LIFE_S} seconds, not {valid_for_s}")
        expires_at = int(self._now()) + valid_for_s
        quoted, expires = path.quoted(), str(expires_at)
        others = parameters.encode("ascii")
        signature = _signature(self._key, self._kid, expires.encode(), quoted.encode(), others)
        query = f"expires={expires}&kid={self._kid.decode()}&signature={signature.decode()}"
        if parameters:
            query = f"{parameters}&{query}"
        return SignedUrl(f"{quoted}?{query}", expires_at)

    def check(self, raw_path: bytes, query: bytes) -> Grant:
        """The right to read what is at `raw_path`, if the query proves it.

        Args:
            raw_path: Of the request target, behind the route's prefix, never decoded.
            query: As it came.

        Raises:
            Unauthenticated: for every reason the same.
        """
        found = _SIGNED_QUERY.fullmatch(query)
        if found is None or not _VISIBLE.fullmatch(raw_path):
            raise Unauthenticated
        others, expires, kid, signature = found.group("others", "expires", "kid", "signature")
        key = self._keys.get(kid)
        if key is None:
            raise Unauthenticated
        expected = _signature(key, kid, expires, raw_path, others or b"")
        if not hmac.compare_digest(expected, signature) or int(expires) <= self._now():
            raise Unauthenticated
        return READER


def is_signed(query: bytes) -> bool:
    """Whether a request means to be judged by its signature."""
    return _IS_SIGNED.search(query) is not None


def _signature(key: bytes, kid: bytes, expires: bytes, raw_path: bytes, others: bytes) -> bytes:
    # None of the parts can hold a line feed, so no two requests have one text.
    text = b"\n".join((_CONTEXT, b"GET", raw_path, others, expires, kid))
    digest = hmac.digest(key, text, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _derive(secret: bytes) -> tuple[bytes, bytes]:
    """Key id and key of a secret; neither tells the secret, nor is a key for tokens.

    HKDF with SHA-256, no salt, and one block for each label:
    https://www.rfc-editor.org/rfc/rfc5869#section-2
    """
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, hashlib.sha256)
    kid, key = (
        hmac.digest(extracted, _CONTEXT + label + b"\x01", hashlib.sha256)
        for label in (b" key id", b" key")
    )
    return kid[:_KID_BYTES].hex().encode(), key[:_KEY_BYTES]
