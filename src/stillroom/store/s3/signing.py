"""Signatures (AWS Signature Version 4) that authenticate requests to a bucket.

Specifications: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and
(for presigned URLs) .../sigv4-query-string-auth.html. The tests use the examples from these pages.
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()  # of an empty body

MAX_PRESIGNED_S: Final = 7 * 24 * 3600
"""Maximum lifetime of a presigned URL:
https://developers.cloudflare.com/r2/api/s3/presigned-urls/"""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(slots=True)
class Signer:
    """Signer of requests to one endpoint with one access key."""

    host: str  # value of the Host header, including the port unless it is the scheme's default
    key_id: str
    secret: str = field(repr=False)
    region: str = "auto"  # region of the bucket. R2 has only `auto`; SeaweedFS accepts any.
    session_token: str | None = field(default=None, repr=False)  # of temporary credentials
    _last: "_Second | None" = field(default=None, init=False, repr=False)

    def sign(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        sha256: str,
        now: datetime,
    ) -> dict[str, str]:
        """Return the headers that authenticate a request for 15 minutes after `now` (in UTC).

        `path` is percent-encoded. `query` is not; the request must contain `encode_query(query)`.
        Names of `headers` are lower-case, and values are stripped. `sha256` is the body's hash.
        """
        second = self._second(now)
        added = {"host": self.host, "x-amz-content-sha256": sha256, "x-amz-date": second.moment}
        if self.session_token is not None:
            added["x-amz-security-token"] = self.session_token
        names, fields = _canonical({**headers, **added})
        signature = second.signature(
            f"{method}\n{path}\n{encode_query(query)}\n{fields}\n{names}\n{sha256}"
        )
        added["authorization"] = f"{second.credential}SignedHeaders={names},Signature={signature}"
        return added

    def presign(
        self, path: str, *, valid_for_s: int, now: datetime, upload: Mapping[str, str] | None = None
    ) -> str:
        """Return the query of a presigned URL for a GET of a percent-encoded path.

        With `upload`, the URL is for a PUT with these headers (lower-case names) and any body.
        """
        if not 1 <= valid_for_s <= MAX_PRESIGNED_S:
            raise ValueError(f"a presigned URL is valid for 1 to {MAX_PRESIGNED_S} seconds")
        second = self._second(now)
        token = "" if self.session_token is None else quote(self.session_token, safe="")
        token = token and f"&X-Amz-Security-Token={token}"
        names, fields = _canonical({**(upload or {}), "host": self.host})
        query = f"{second.query}&X-Amz-Expires={valid_for_s}{token}&X-Amz-SignedHeaders="
        query += quote(names, safe="")
        method = "GET" if upload is None else "PUT"
        signature = second.signature(
            f"{method}\n{path}\n{query}\n{fields}\n{names}\nUNSIGNED-PAYLOAD"
        )
        return f"{query}&X-Amz-Signature={signature}"

    def _second(self, now: datetime) -> "_Second":
        number = int(now.timestamp())
        if self._last is None or self._last.number != number:
            moment = f"{now:%Y%m%dT%H%M%SZ}"
            scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
            credential = f"{self.key_id}/{scope}"
            self._last = _Second(
                number,
                moment,
                f"{_ALGORITHM} Credential={credential},",
                f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={quote(credential, safe='')}"
                f"&X-Amz-Date={moment}",
                f"{_ALGORITHM}\n{moment}\n{scope}\n",
                hmac.new(_signing_key(self.secret, scope), digestmod="sha256"),
            )
        return self._last


@dataclass(frozen=True, slots=True, repr=False)
class _Second:
    number: int  # seconds since the epoch
    moment: str  # value of the header `x-amz-date`
    credential: str  # beginning of the header `authorization`
    query: str  # beginning of the query of presigned URLs
    signed: str  # beginning of the text to sign
    mac: hmac.HMAC  # each signature updates a copy, which is faster than `hmac.digest`

    def signature(self, canonical: str) -> str:
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        mac = self.mac.copy()
        mac.update(f"{self.signed}{digest}".encode())
        return mac.hexdigest()


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    covered = sorted(headers.items())
    names = ";".join([name for name, _ in covered])
    return names, "".join([f"{name}:{value}\n" for name, value in covered])


def encode_query(query: Mapping[str, str]) -> str:
    """Encode query parameters in exactly the form that signatures require."""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


@functools.lru_cache(maxsize=4)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
