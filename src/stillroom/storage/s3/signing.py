"""Signature version 4: proves to a bucket that a request is ours.

Pure functions of the request and the time, as written down in
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and, for
presigned URLs, in .../sigv4-query-string-auth.html. The tests hold them to the examples there.
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
"""What a request without a body hashes to."""

MAX_PRESIGNED_S: Final = 7 * 24 * 3600
"""https://developers.cloudflare.com/r2/api/s3/presigned-urls/: from 1 second to 7 days."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Signer:
    """One access key, for one endpoint."""

    def __init__(
        self,
        host: str,
        key_id: str,
        secret: str,
        *,
        region: str = "auto",
        session_token: str | None = None,
        service: str = "s3",
    ) -> None:
        """Sign for one host.

        Args:
            host: As the Host field has it: with the port unless it is the scheme's own.
            key_id: Names the key.
            secret: Never shown.
            region: Of the bucket. R2 knows one, `auto`; SeaweedFS takes any.
            session_token: Of temporary credentials; goes with every request and presigned URL.
            service: Of Amazon's, as its published examples have others.
        """
        self._host = host
        self._key_id = key_id
        self._secret = secret
        self._region = region
        self._session_token = session_token
        self._service = service
        self._last: _Second | None = None

    def sign(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload_sha256: str,
        now: datetime,
    ) -> dict[str, str]:
        """The fields to add to a request so that the bucket accepts it for 15 minutes.

        Args:
            method: Of HTTP.
            path: As it stands in the request, quoted.
            query: Decoded names and values; send them as `encoded_query` writes them.
            headers: What else shall be covered: lower-case names, stripped values.
            payload_sha256: Of the body, hexadecimal. The bucket compares.
            now: Aware, UTC.
        """
        second = self._second(now)
        added = {
            "host": self._host,
            "x-amz-content-sha256": payload_sha256,
            "x-amz-date": second.moment,
        }
        if self._session_token is not None:
            added["x-amz-security-token"] = self._session_token
        covered = {**headers, **added}
        added["authorization"] = self.authorization(
            method, path, query=query, headers=covered, payload_sha256=payload_sha256, now=now
        )
        return added

    def authorization(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload_sha256: str,
        now: datetime,
    ) -> str:
        """The Authorization field of a request that has exactly these headers.

        The same arguments as those of `sign`, which adds what S3 wants among them.
        """
        second = self._second(now)
        covered = sorted(headers.items())
        names = ";".join([name for name, _ in covered])
        fields = "".join([f"{name}:{value}\n" for name, value in covered])
        signature = second.signature(
            f"{method}\n{path}\n{encoded_query(query)}\n{fields}\n{names}\n{payload_sha256}"
        )
        return f"{second.credential}SignedHeaders={names},Signature={signature}"

    def presign(self, path: str, *, valid_for_s: int, now: datetime) -> str:
        """The query of a presigned GET of `path`.

        Args:
            path: As it stands in the URL, quoted.
            valid_for_s: 1 to `MAX_PRESIGNED_S`.
            now: Aware, UTC.
        """
        if not 1 <= valid_for_s <= MAX_PRESIGNED_S:
            raise ValueError(f"a presigned URL is valid for 1 to {MAX_PRESIGNED_S} seconds")
        second = self._second(now)
        token = "" if self._session_token is None else quote(self._session_token, safe="")
        token = token and f"&X-Amz-Security-Token={token}"
        query = f"{second.query}&X-Amz-Expires={valid_for_s}{token}&X-Amz-SignedHeaders=host"
        signature = second.signature(
            f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        )
        return f"{query}&X-Amz-Signature={signature}"

    def _second(self, now: datetime) -> "_Second":
        """What is the same for a whole second is made once in it."""
        number = int(now.timestamp())
        if self._last is None or self._last.number != number:
            moment = f"{now:%Y%m%dT%H%M%SZ}"
            scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
            key = _signing_key(self._secret, scope)
            credential = f"{self._key_id}/{scope}"
            self._last = _Second(
                number,
                moment,
                f"{_ALGORITHM} Credential={credential},",
                f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={quote(credential, safe='')}"
                f"&X-Amz-Date={moment}",
                f"{_ALGORITHM}\n{moment}\n{scope}\n",
                *_keyed(key),
            )
        return self._last


@dataclass(frozen=True, slots=True, repr=False)
class _Second:
    """What all signatures of one second have in common.

    Attributes:
        number: Since the epoch.
        moment: As the protocol writes it.
        credential: How the Authorization field begins.
        query: How the query of a presigned URL begins.
        signed: How what is signed begins.
        inner, outer: The two hashes of an HMAC, which have taken in the key already.
    """

    number: int
    moment: str
    credential: str
    query: str
    signed: str
    inner: "hashlib._Hash"
    outer: "hashlib._Hash"

    def signature(self, canonical: str) -> str:
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        inner = self.inner.copy()
        inner.update(f"{self.signed}{digest}".encode())
        outer = self.outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


def encoded_query(query: Mapping[str, str]) -> str:
    """A query exactly as its signature covers it."""
    if not query:
        return ""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


@functools.lru_cache(maxsize=4)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _keyed(key: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """An HMAC that has begun (RFC 2104, 2): going on takes half as long as `hmac.digest`."""
    block = key.ljust(64, b"\0")  # of SHA-256; the key is a digest, so it is never longer
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    return hashlib.sha256(inner), hashlib.sha256(outer)
