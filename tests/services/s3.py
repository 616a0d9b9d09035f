"""S3 as an operator's own tools speak it, for what the backend never does itself."""

from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

import httpx

from services.seaweedfs import BUCKET, KEY_ID, SECRET
from services.trust import TRUST
from stillroom.store.s3.signing import Signer, encode_query


class Operator:
    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url
        self._signer = Signer(urlsplit(endpoint_url).netloc, KEY_ID, SECRET)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> httpx.Response:
        quoted = quote(path, safe="/")
        signed = self._signer.sign(
            method,
            quoted,
            query=query or {},
            headers=headers or {},
            sha256=sha256(body).hexdigest(),
            now=datetime.now(UTC),
        )
        return httpx.request(
            method,
            f"{self._endpoint_url}{quoted}?{encode_query(query or {})}",
            headers={**(headers or {}), **signed},
            content=body,
            timeout=60,
            verify=TRUST,
        )

    def make_bucket(self, name: str = BUCKET) -> None:
        """Ready for images: SeaweedFS makes volumes at the first save, which may take seconds."""
        answer = self.send("PUT", f"/{name}")
        assert answer.status_code == 200, answer.text
        self.put("first", bucket=name)
        self.delete("first", bucket=name)

    def keys(self, prefix: str = "") -> list[str]:
        query = {"list-type": "2", "prefix": prefix}
        found: list[str] = []
        while True:
            answer = self.send("GET", f"/{BUCKET}", query=query)
            assert answer.status_code == 200, answer.text
            page = ET.fromstring(answer.text)
            found += [key.text or "" for key in page.iterfind(".//{*}Key")]
            token = page.findtext("{*}NextContinuationToken")
            if not token:
                return found
            query["continuation-token"] = token

    def uploads(self) -> list[str]:
        answer = self.send("GET", f"/{BUCKET}", query={"uploads": ""})
        assert answer.status_code == 200, answer.text
        return [key.text or "" for key in ET.fromstring(answer.text).iterfind(".//{*}Key")]

    def put(
        self,
        key: str,
        body: bytes = b"x",
        bucket: str = BUCKET,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        answer = self.send("PUT", f"/{bucket}/{key}", body=body, headers=headers)
        assert answer.status_code == 200, answer.text

    def delete(self, key: str, bucket: str = BUCKET) -> None:
        answer = self.send("DELETE", f"/{bucket}/{key}")
        assert answer.status_code in (200, 204), answer.text
