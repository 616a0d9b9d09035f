"""Signatures (AWS Signature Version 4) that authenticate requests to a bucket.

Specifications: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and
(for presigned URLs) .../sigv4-query-string-auth.html. The tests use the examples from these pages.
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
"""SHA-256 of an empty body."""

MAX_PRESIGNED_S: Final = 7 * 24 * 3600
"""Maximum lifetime of a presigned URL:
https://developers.cloudflare.com/r2/api/s3/presigned-urls/"""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Signer:
    """Signer of requests to one endpoint with one access key."""

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
        """Prepare signatures for one host.

        Args:
            host: Value of the Host header, including the port unless it is the scheme's default.
            key_id: Id of the access key.
            secret: Secret of the access key.
            region: Region of the bucket. R2 has only `auto`; SeaweedFS accepts any.
            session_token: Session token if the credentials are temporary.
            service: Name of the AWS service. Amazon's published examples use others than S3.
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
        """Return the headers that authenticate a request for 15 minutes.

        Args:
            method: HTTP method.
            path: Percent-encoded path of the request.
            query: Decoded names and values. The request must use the result of `encode_query`.
            headers: Other headers to sign, with lower-case names and stripped values.
            payload_sha256: SHA-256 of the body in hexadecimal, which the bucket checks.
            now: Current time in UTC.
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
        """Return the Authorization header for a request with exactly these headers.

        The arguments are those of `sign`, which adds the headers that S3 requires.
        """
        second = self._second(now)
        covered = sorted(headers.items())
        names = ";".join([name for name, _ in covered])
        fields = "".join([f"{name}:{value}\n" for name, value in covered])
        signature = second.signature(
            f"{method}\n{path}\n{encode_query(query)}\n{fields}\n{names}\n{payload_sha256}"
        )
        return f"{second.credential}SignedHeaders={names},Signature={signature}"

    def presign(self, path: str, *, valid_for_s: int, now: datetime) -> str:
        """Return the query for a presigned GET of a percent-encoded path."""
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
        """Return the values that all signatures in the current second share, from a cache."""
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
                *_start_hmac(key),
            )
        return self._last


@dataclass(frozen=True, slots=True, repr=False)
class _Second:
    """Values that all signatures in the same second share.

    Attributes:
        number: Seconds since the epoch.
        moment: The time in the format of the signature.
        credential: Beginning of the Authorization header.
        query: Beginning of a presigned URL's query.
        signed: Beginning of the signed text.
        inner, outer: The two hash objects of an HMAC, initialized with the key.
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


def encode_query(query: Mapping[str, str]) -> str:
    """Encode a query in exactly the form that is signed."""
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


def _start_hmac(key: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """Start an HMAC (RFC 2104, 2). Reusing the start is twice as fast as `hmac.digest`."""
    block = key.ljust(64, b"\0")  # block size of SHA-256; the key is a (shorter) digest
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    return hashlib.sha256(inner), hashlib.sha256(outer)
