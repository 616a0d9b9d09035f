"""R2 as its documents describe it, where no server that runs here behaves so.

A bucket in memory behind real sockets. It keeps the rules that SeaweedFS does not:
401 for unknown keys, 400 for expired URLs, 429 for a second write to a key within a
second, equal parts, one checksum, no chunked bodies, 8,192 bytes of metadata, keys in
byte order, short pages. And it fails on demand: see `stub_faults.py`.

https://developers.cloudflare.com/r2/api/s3/api/, .../api/error-codes/,
.../objects/multipart-objects/ and .../platform/limits/
"""

import base64
import contextlib
import hashlib
import itertools
import re
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import quote_plus, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from aiohttp import web

from services import stub_wire as wire
from services.stub_wire import BUCKET, KEY_ID, SECRET, error, key_of, xml
from stillroom.features.grants import probes
from stillroom.store.bucket import order
from stillroom.store.bucket.conditions import PROBE
from stillroom.store.choose import R2Config

Fault = Callable[["StubR2", web.Request], Awaitable[web.StreamResponse]]

T = TypeVar("T", bound="StubR2")

PROBES = (PROBE, order.PROBE, probes.PROBE)


class Conditions(StrEnum):
    """What becomes of If-Match and If-None-Match of a request that stores."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    IGNORED_IN_PARTS = "ignored where an upload in parts is completed"
    REFUSED = "refused"
    UNQUOTED = "taken for ETags without quotes, as Ceph RGW 18 does"


@dataclass
class Stored:
    body: bytes
    headers: dict[str, str]
    etag: str
    modified: float = field(default_factory=time.time)


@dataclass
class Upload:
    key: str
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))


class StubR2:
    """What the bucket holds, and what was asked of it.

    Attributes:
        operations: Requests, repetitions included, but for `probes` of the treatment of conditions.
        deletions: What it does with conditions of a DELETE; R2 documents none.
        copy_conditions: What it does with conditions on the target of a copy.
        checks_sha256: Whether it compares a body with `x-amz-checksum-sha256`.
        takes_forged_uploads: Whether it takes any headers of a presigned upload.
        refuses_overwrites: Whether an object is never replaced, as with some retention rules.
        faults: Met by the next requests, one each, instead of an answer.
        order: By what keys are listed; another one than `str` is no S3's.
        most_on_a_page: A page of a listing never holds more, though more follow.
    """

    keeps_refused_uploads = False
    """R2 ends an upload whose condition fails."""

    def __init__(self) -> None:
        self.endpoint_url = ""
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.probes: Counter[str] = Counter()
        self.conditions = Conditions.HONOURED
        self.deletions = Conditions.IGNORED
        self.copy_conditions = Conditions.HONOURED
        self.checks_sha256 = True
        self.takes_forged_uploads = False
        self.refuses_overwrites = False
        self.operations: Counter[str] = Counter()
        self.requests: list[web.Request] = []
        self.faults: deque[Fault] = deque()
        self.order: Callable[[str], Any] = str
        self.one_write_a_second = False
        self.most_on_a_page = 1000
        self._written: dict[str, float] = {}
        self._numbers = itertools.count(1)

    @property
    def config(self) -> R2Config:
        return R2Config(self.endpoint_url, KEY_ID, SECRET, BUCKET)

    @property
    def variables(self) -> dict[str, str]:
        return wire.variables_of(self.config)

    def endpoint_at(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def classes(self) -> tuple[int, int]:
        class_b = sum(self.operations[name] for name in wire.CLASS_B)
        free = sum(self.operations[name] for name in wire.FREE)
        return self.operations.total() - class_b - free, class_b

    async def handle(self, request: web.Request) -> web.StreamResponse:
        tried = request.query.get("prefix") or key_of(request)
        if tried.startswith(PROBES):  # asked once by each process, before all else
            self.probes[wire.operation_of(request)] += 1
            return await self.carry_out(request)
        self.operations[wire.operation_of(request)] += 1
        self.requests.append(request)
        if self.faults:
            return await self.faults.popleft()(self, request)
        return await self.carry_out(request)

    async def carry_out(self, request: web.Request) -> web.StreamResponse:
        if refusal := self.refuse(request):
            return refusal
        if "chunked" in request.headers.get("transfer-encoding", ""):
            return error(501, "NotImplemented")
        body = await request.content.read()  # not `read()`, which a request that is kept would keep
        announced = request.headers.get("x-amz-content-sha256")
        if announced not in (None, hashlib.sha256(body).hexdigest()):
            return error(400, "XAmzContentSHA256Mismatch")
        if sum(name.lower().startswith("x-amz-checksum-") for name in request.headers) > 1:
            return error(400, "InvalidRequest")
        checksum = request.headers.get("x-amz-checksum-sha256")
        actual = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if self.checks_sha256 and checksum not in (None, actual):
            return error(400, "BadDigest")
        if request.query.get("uploadId", "") not in ("", *self.uploads):
            return error(404, "NoSuchUpload")
        carry_out: Callable[[web.Request, str, bytes], web.Response]
        carry_out = getattr(self, f"_{wire.operation_of(request)}")
        return carry_out(request, key_of(request), body)

    def refuse(self, request: web.Request) -> web.Response | None:
        if "X-Amz-Signature" in request.query:
            began = datetime.strptime(request.query["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
            lasts = timedelta(seconds=int(request.query["X-Amz-Expires"]))
            if began + lasts < datetime.now(UTC):
                return error(400, "ExpiredRequest")
            if request.method != "PUT" or self.takes_forged_uploads:
                return None
            # Documents are silent about both; the worst that is safe.
            is_refused = (
                "x-amz-copy-source" in request.headers
                or "content-length" in request.query["X-Amz-SignedHeaders"]
            )
            if is_refused or not wire.is_presigned(request, "auto"):
                return error(403, "SignatureDoesNotMatch")
            return None
        given = re.search(r"Credential=([^/]*)/", request.headers.get("authorization", ""))
        if given is None or given[1] != KEY_ID:
            return error(401, "Unauthorized")
        if wire.bucket_of(request) != BUCKET:
            return error(404, "NoSuchBucket")
        return None

    # Objects

    def _PutObject(self, request: web.Request, key: str, body: bytes) -> web.Response:
        if refusal := self._refused(request, key):
            return refusal
        stored = Stored(body, wire.stored_headers(request), f'"{hashlib.md5(body).hexdigest()}"')
        self.objects[key] = stored
        return web.Response(headers={"ETag": stored.etag})

    def _refused(self, request: web.Request, key: str) -> web.Response | None:
        guarded = "if-match" in request.headers or "if-none-match" in request.headers
        if guarded and self.conditions is Conditions.REFUSED:
            return error(501, "NotImplemented")
        if self.refuses_overwrites and key in self.objects:
            return error(403, "AccessDenied")
        now = time.monotonic()
        if self.one_write_a_second and now - self._written.get(key, -10.0) < 1:
            return error(429, "TooManyRequests")
        metadata = sum(
            len(name) + len(value)
            for name, value in request.headers.items()
            if name.lower().startswith("x-amz-meta-")
        )
        if metadata > 8192:
            return error(400, "MetadataTooLarge")
        if not self._condition_holds(request, key):
            return self.condition_failed(key)
        self._written[key] = now
        return None

    def condition_failed(self, key: str) -> web.Response:
        del key
        return error(412, "PreconditionFailed")

    def _condition_holds(self, request: web.Request, key: str) -> bool:
        found = self.objects.get(key)
        in_parts = request.method == "POST"
        if self.conditions is Conditions.IGNORED or (
            self.conditions is Conditions.IGNORED_IN_PARTS and in_parts
        ):
            return True
        if "if-match" in request.headers:
            etag = found.etag if found else None
            if self.conditions is Conditions.UNQUOTED and etag is not None:
                etag = etag.strip('"')
            return request.headers["if-match"] == etag
        return request.headers.get("if-none-match") != "*" or found is None

    def _HeadObject(self, _: web.Request, key: str, __: bytes) -> web.Response:
        found = self.objects.get(key)
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found.body, headers=facts(found))

    def _GetObject(self, request: web.Request, key: str, _: bytes) -> web.Response:
        found = self.objects.get(key)
        if found is None:
            return error(404, "NoSuchKey")
        if request.headers.get("if-match", found.etag) != found.etag:
            return error(412, "PreconditionFailed")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if wanted is None:
            return web.Response(body=found.body, headers=facts(found))
        part = found.body[int(wanted[1]) : int(wanted[2]) + 1]
        if not part:
            return error(416, "InvalidRange")
        last, total = int(wanted[1]) + len(part) - 1, len(found.body)
        headers = {
            **facts(found),
            "Content-Length": str(len(part)),
            "Content-Range": f"bytes {wanted[1]}-{last}/{total}",
        }
        return web.Response(status=206, body=part, headers=headers)

    def _DeleteObject(self, request: web.Request, key: str, _: bytes) -> web.Response:
        guarded = "if-match" in request.headers and self.deletions is not Conditions.IGNORED
        if guarded and self.deletions is Conditions.REFUSED:
            return error(501, "NotImplemented")
        found = self.objects.get(key)
        if guarded and (found is None or request.headers["if-match"] != found.etag):
            return self.condition_failed(key)
        self.objects.pop(key, None)
        return web.Response(status=204)

    def _CopyObject(self, request: web.Request, key: str, _: bytes) -> web.Response:
        _root, bucket, source = unquote(request.headers["x-amz-copy-source"]).split("/", 2)
        found = self.objects.get(source)
        if bucket != BUCKET or found is None:
            return error(404, "NoSuchKey")
        if request.headers.get("x-amz-copy-source-if-match", found.etag) != found.etag:
            return error(412, "PreconditionFailed")
        if "if-none-match" in request.headers:
            if self.copy_conditions is Conditions.REFUSED:
                return error(501, "NotImplemented")
            if self.copy_conditions is Conditions.HONOURED and key in self.objects:
                return error(412, "PreconditionFailed")
        replaces = request.headers.get("x-amz-metadata-directive") == "REPLACE"
        headers = wire.stored_headers(request) if replaces else found.headers
        self.objects[key] = Stored(found.body, headers, found.etag)
        return xml(f"<CopyObjectResult><ETag>{escape(found.etag)}</ETag></CopyObjectResult>")

    # Multipart

    def _CreateMultipartUpload(self, request: web.Request, key: str, _: bytes) -> web.Response:
        upload_id = f"upload-{next(self._numbers)}"
        self.uploads[upload_id] = Upload(key, wire.stored_headers(request))
        return xml(
            f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId>"
            "</InitiateMultipartUploadResult>"
        )

    def _UploadPart(self, request: web.Request, _: str, body: bytes) -> web.Response:
        upload = self.uploads[request.query["uploadId"]]
        upload.parts[int(request.query["partNumber"])] = body
        return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def _CompleteMultipartUpload(self, request: web.Request, key: str, body: bytes) -> web.Response:
        upload = self.uploads[request.query["uploadId"]]
        parts = ET.fromstring(body).iterfind(".//{*}PartNumber")
        numbers = [int(node.text or "") for node in parts]
        *full, last = [upload.parts[number] for number in numbers]
        sizes = {len(part) for part in full}
        if len(sizes) > 1 or (full and len(last) > len(full[0])):
            return error(400, "InvalidPart")
        if any(len(part) < 5 * 1024**2 for part in full):
            return error(400, "EntityTooSmall")
        if refusal := self._refused(request, key):
            if not self.keeps_refused_uploads:
                del self.uploads[request.query["uploadId"]]
            return refusal
        del self.uploads[request.query["uploadId"]]
        whole = b"".join([*full, last])
        etag = f'"{hashlib.md5(whole).hexdigest()}-{len(numbers)}"'
        self.objects[key] = Stored(whole, upload.headers, etag)
        return xml(
            f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag>"
            "</CompleteMultipartUploadResult>"
        )

    def _AbortMultipartUpload(self, request: web.Request, _: str, __: bytes) -> web.Response:
        del self.uploads[request.query["uploadId"]]
        return web.Response(status=204)

    def _ListParts(self, request: web.Request, _: str, __: bytes) -> web.Response:
        upload = self.uploads[request.query["uploadId"]]
        parts = "".join(f"<Part><PartNumber>{part}</PartNumber></Part>" for part in upload.parts)
        return xml(f"<ListPartsResult>{parts}</ListPartsResult>")

    def _ListMultipartUploads(self, request: web.Request, _: str, __: bytes) -> web.Response:
        """One upload a page, so that whoever reads them must go on."""
        query = request.query
        after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        found = sorted(
            (upload.key, upload_id, f"{upload.begun:%Y-%m-%dT%H:%M:%S.000Z}")
            for upload_id, upload in self.uploads.items()
            if upload.key.startswith(query.get("prefix", "")) and (upload.key, upload_id) > after
        )
        shown = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{begun}</Initiated></Upload>"
            f"<NextKeyMarker>{escape(key)}</NextKeyMarker>"
            f"<NextUploadIdMarker>{upload_id}</NextUploadIdMarker>"
            for key, upload_id, begun in found[:1]
        )
        return xml(
            f"<ListMultipartUploadsResult><IsTruncated>{str(len(found) > 1).lower()}</IsTruncated>"
            f"{shown}</ListMultipartUploadsResult>"
        )

    # Listing

    def _ListObjectsV2(self, request: web.Request, _: str, __: bytes) -> web.Response:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = min(int(query.get("max-keys", "1000")), self.most_on_a_page)
        shown: dict[str, str] = {}  # entry -> the last key that it stands for
        more = False
        for key in sorted(self.objects, key=self.order):
            if not key.startswith(prefix) or (after and self.order(key) <= self.order(after)):
                continue
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if at < 0 else key[: at + 1]
            if entry not in shown and len(shown) == most:
                more = True
                break
            shown[entry] = key
        keys = [entry for entry, key in shown.items() if entry == key]
        folders = [entry for entry, key in shown.items() if entry != key]
        return xml(
            "<ListBucketResult><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>"
            + "".join(f"<Contents><Key>{quote_plus(key, '/')}</Key></Contents>" for key in keys)
            + "".join(
                f"<CommonPrefixes><Prefix>{quote_plus(folder, '/')}</Prefix></CommonPrefixes>"
                for folder in folders
            )
            + (
                f"<NextContinuationToken>{escape(list(shown.values())[-1])}</NextContinuationToken>"
                if more
                else ""
            )
            + "</ListBucketResult>"
        )


@contextlib.asynccontextmanager
async def served(stub: T) -> AsyncIterator[T]:
    async with wire.answering(stub.handle) as port:
        stub.endpoint_url = stub.endpoint_at(port)
        yield stub


def facts(stored: Stored) -> dict[str, str]:
    modified = formatdate(stored.modified, usegmt=True)
    return {
        **stored.headers,
        "Content-Length": str(len(stored.body)),
        "ETag": stored.etag,
        "Last-Modified": modified,
    }
