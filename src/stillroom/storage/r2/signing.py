"""Signature version 4: proves to a bucket that a request is ours.

Pure functions of the request and the time, as written down in
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and, for
presigned URLs, in .../sigv4-query-string-auth.html. The tests hold them to the examples there.
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
"""What a request without a body hashes to."""

MAX_PRESIGNED_S: Final = 7 * 24 * 3600
"""https://developers.cloudflare.com/r2/api/s3/presigned-urls/: from 1 second to 7 days."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Signer:
    """One access key, for one endpoint.

    Attributes:
        host: As the Host field has it: with the port unless it is the scheme's own.
        region: R2 knows one, `auto`; SeaweedFS and MinIO take any.
    """

    host: str
    key_id: str
    secret: str = field(repr=False)
    region: str = "auto"

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
        moment = f"{now:%Y%m%dT%H%M%SZ}"
        added = {
            "host": self.host,
            "x-amz-content-sha256": payload_sha256,
            "x-amz-date": moment,
        }
        covered = {**headers, **added}
        names = ";".join(sorted(covered))
        signature = self._signature(
            f"{method}\n{path}\n{encoded_query(query)}", covered, payload_sha256, moment
        )
        added["authorization"] = (
            f"{_ALGORITHM} Credential={self.key_id}/{self._scope(moment)},"
            f"SignedHeaders={names},Signature={signature}"
        )
        return added

    def presign(self, path: str, *, valid_for_s: int, now: datetime) -> str:
        """The query that lets anybody GET `path` for a while.

        Args:
            path: As it stands in the URL, quoted.
            valid_for_s: 1 to `MAX_PRESIGNED_S`.
            now: Aware, UTC.
        """
        if not 1 <= valid_for_s <= MAX_PRESIGNED_S:
            raise ValueError(f"a presigned URL is valid for 1 to {MAX_PRESIGNED_S} seconds")
        moment = f"{now:%Y%m%dT%H%M%SZ}"
        query = encoded_query(
            {
                "X-Amz-Algorithm": _ALGORITHM,
                "X-Amz-Credential": f"{self.key_id}/{self._scope(moment)}",
                "X-Amz-Date": moment,
                "X-Amz-Expires": str(valid_for_s),
                "X-Amz-SignedHeaders": "host",
            }
        )
        signature = self._signature(
            f"GET\n{path}\n{query}", {"host": self.host}, "UNSIGNED-PAYLOAD", moment
        )
        return f"{query}&X-Amz-Signature={signature}"

    def _scope(self, moment: str) -> str:
        return f"{moment[:8]}/{self.region}/s3/aws4_request"

    def _signature(
        self, target: str, covered: Mapping[str, str], payload_sha256: str, moment: str
    ) -> str:
        fields = "".join(f"{name}:{covered[name]}\n" for name in sorted(covered))
        canonical = f"{target}\n{fields}\n{';'.join(sorted(covered))}\n{payload_sha256}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{moment}\n{self._scope(moment)}\n{digest}"
        key = _signing_key(self.secret, moment[:8], self.region)
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def encoded_query(query: Mapping[str, str]) -> str:
    """A query exactly as its signature covers it."""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


@functools.lru_cache(maxsize=4)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
