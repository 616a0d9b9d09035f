"""`S3ObjectStore`: the object store port, implemented with S3 operations."""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.store.objectstore import (
    DEADLINE_S,
    ChangeResult,
    CreatedUpload,
    Guard,
    Headers,
    ListedPage,
    ObjectHead,
    Properties,
    Refusal,
    UploadsPage,
)
from stillroom.store.s3 import xml
from stillroom.store.s3.calls import BodyStream, BucketResponse, Call
from stillroom.store.s3.client import BucketClient
from stillroom.store.s3.heads import head_of, headers_of, strong_etag

_LIST_TIMEOUT_S: Final = 10.0  # timeout in seconds for one attempt of a listing
_CHECKED_KEY: Final = ".stillroom/check"  # never exists, since images have other prefixes
_CHECKED_UPLOAD: Final = "0" * 32
_NO_SUCH_UPLOAD: Final = frozenset((400, 404, 405, 409, 501))
_NOTHING: Final[frozenset[int]] = frozenset()
_MISSING: Final = frozenset((404,))
_CONDITION_FAILED: Final = frozenset((404, 412))  # 404: the object for If-Match is missing
_NO_FIRST_BYTES: Final = frozenset((404, 416))  # S3 sends 416 for a range of an empty object
_ANY_REFUSAL: Final = frozenset((400, 403, 404, 405, 409, 412, 501))
_REFUSALS: Final = {404: Refusal.MISSING, 412: Refusal.GUARD_FAILED}


class S3ObjectStore:
    """`ObjectStore` implemented with S3. Docstrings name the S3 operation of each method."""

    def __init__(self, client: BucketClient) -> None:
        """Use the bucket of `client`. `close` also closes the client."""
        # https://developers.cloudflare.com/r2/api/s3/extensions/#conditional-operations-in-putobject
        self.keeps_guards = client.is_r2
        self._client = client

    async def put(
        self,
        key: str,
        body: bytes | memoryview,
        sha256: str,
        properties: Properties,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Store an object in one request (PutObject)."""
        headers = headers_of(properties) | _fields_of(guard)
        expected = _ANY_REFUSAL if any_refusal else _CONDITION_FAILED if guard else _NOTHING
        call = Call(
            "PutObject", "PUT", key, headers=headers, body=body, sha256=sha256, expected=expected
        )
        return _result_of(await self._client.send(call, deadline=deadline), _etag_in_head)

    async def head(self, key: str, *, deadline: float | None = None) -> ObjectHead | None:
        """Return the metadata of an object (HeadObject)."""
        call = Call("HeadObject", "HEAD", key, expected=_MISSING)
        response = await self._client.send(call, deadline=deadline)
        return None if response.status in _MISSING else head_of(response.headers)

    async def get_range(self, key: str, etag: str, start: int, last: int) -> bytes | None:
        """Return a byte range of an object if it has this ETag (GetObject)."""
        headers = {"range": f"bytes={start}-{last}", "if-match": etag}
        call = Call("GetObject", "GET", key, headers=headers, expected=_CONDITION_FAILED)
        response = await self._client.send(call)
        return None if response.status in _CONDITION_FAILED else response.body

    async def peek(self, key: str, length: int) -> tuple[ObjectHead, bytes] | None:
        """Return the metadata and the first bytes of an object (GetObject with a range)."""
        headers = {"range": f"bytes=0-{length - 1}"}
        call = Call("GetObject", "GET", key, headers=headers, expected=_NO_FIRST_BYTES)
        response = await self._client.send(call)
        if response.status in _MISSING:
            return None
        if response.status in _NO_FIRST_BYTES:
            return ObjectHead("", 0, 0, "", {}), b""
        total = response.headers.get("content-range", "").rpartition("/")[2]
        length_field = {"content-length": total} if total else {}
        return head_of({**response.headers, **length_field}), response.body[:length]

    async def download(self, key: str) -> tuple[ObjectHead, BodyStream] | None:
        """Open an object and read its metadata in one request (GetObject)."""
        call = Call("GetObject", "GET", key, expected=_MISSING, streams=True)
        response = await self._client.send(call)
        if response.rest is None:
            return None
        try:
            return head_of(response.headers), response.rest
        except BackendUnavailable:
            response.rest.close()
            raise

    async def copy(
        self,
        source: str,
        etag: str,
        target: str,
        properties: Properties | None = None,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Copy an object of up to 5 GiB (CopyObject). An attempt may take until the deadline."""
        # https://developers.cloudflare.com/r2/api/s3/extensions/#conditional-operations-in-copyobject
        prefix = "cf-copy-destination-" if self._client.is_r2 else ""
        headers = {
            "x-amz-copy-source": self._client.copy_source(source),
            "x-amz-copy-source-if-match": etag,
            **{f"{prefix}{name}": value for name, value in _fields_of(guard).items()},
        }
        if properties is not None:
            headers |= {**headers_of(properties), "x-amz-metadata-directive": "REPLACE"}
        expected = _ANY_REFUSAL if any_refusal else _CONDITION_FAILED
        call = Call(
            "CopyObject", "PUT", target, headers=headers, expected=expected, timeout_s=math.inf
        )
        return _result_of(await self._client.send(call, deadline=deadline), _etag_in_body)

    async def delete(
        self,
        key: str,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        once: bool = False,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Delete an object (DeleteObject)."""
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
        expected = _ANY_REFUSAL if any_refusal else _CONDITION_FAILED if guard else _MISSING
        headers = _fields_of(guard)
        call = Call("DeleteObject", "DELETE", key, headers=headers, expected=expected, once=once)
        response = await self._client.send(call, deadline=deadline)
        if guard is None and response.status in _MISSING:
            return ChangeResult(doubtful=response.doubtful)
        return _result_of(response)

    async def list(
        self,
        prefix: str,
        *,
        limit: int,
        after: str = "",
        token: str | None = None,
        delimited: bool = False,
        deadline: float | None = None,
    ) -> ListedPage:
        """List one page of keys (ListObjectsV2)."""
        query = {
            "list-type": "2",
            "encoding-type": "url",  # XML cannot represent some characters
            "max-keys": str(limit),
            "prefix": prefix,
            **({"delimiter": "/"} if delimited else {}),
            **({"continuation-token": token} if token else _start_after(prefix, after)),
        }
        call = Call("ListObjectsV2", "GET", query=query, timeout_s=_LIST_TIMEOUT_S)
        response = await self._client.send(call, deadline=deadline)
        by_tree = response.headers.get("server", "").startswith("SeaweedFS")
        with _reading("a listing"):
            return xml.parse_listing(response.body, order=_tree_order if by_tree else str)

    async def create_upload(self, key: str, properties: Properties) -> CreatedUpload:
        """Create a multipart upload (CreateMultipartUpload)."""
        headers = headers_of(properties)
        call = Call("CreateMultipartUpload", "POST", key, query={"uploads": ""}, headers=headers)
        response = await self._client.send(call)
        return CreatedUpload(_text_of(response, "UploadId"), response.doubtful)

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: memoryview, sha256: str
    ) -> str:
        """Send a part and return its ETag (UploadPart)."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        call = Call("UploadPart", "PUT", key, query=query, body=body, sha256=sha256)
        return _etag_in_head(await self._client.send(call))

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[str],
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Combine the parts into an object (CompleteMultipartUpload)."""
        body = xml.completion_body(parts)
        call = Call(
            "CompleteMultipartUpload",
            "POST",
            key,
            query={"uploadId": upload_id},
            headers={"content-type": "application/xml", **_fields_of(guard)},
            body=body,
            sha256=hashlib.sha256(body).hexdigest(),
            expected=_ANY_REFUSAL if any_refusal else _CONDITION_FAILED,
            timeout_s=DEADLINE_S,
        )
        return _result_of(await self._client.send(call, deadline=deadline), _etag_in_body)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Delete the parts of an upload (AbortMultipartUpload)."""
        await self._client.send(_abortion(key, upload_id, _MISSING))

    async def has_parts(self, key: str, upload_id: str) -> bool:
        """Return whether an upload has any part (ListParts with a limit of one)."""
        query = {"uploadId": upload_id, "max-parts": "1"}
        call = Call("ListParts", "GET", key, query=query, expected=_MISSING)
        response = await self._client.send(call)
        if response.status in _MISSING:
            return True
        with _reading("a list of parts"):
            return xml.parse(response.body).find("Part") is not None

    async def list_uploads(self, prefix: str, after: tuple[str, str] | None = None) -> UploadsPage:
        """List one page of unfinished uploads (ListMultipartUploads)."""
        # Without `encoding-type`: SeaweedFS claims to encode keys, but does not.
        query = {"uploads": "", "prefix": prefix}
        if after is not None:
            query |= {"key-marker": after[0], "upload-id-marker": after[1]}
        response = await self._client.send(Call("ListMultipartUploads", "GET", query=query))
        with _reading("uploads"):
            return xml.parse_uploads(response.body)

    def presigned_url(self, key: str, *, valid_for_s: int, upload: Headers | None = None) -> str:
        """Return a URL with a version 4 signature. Sends no request."""
        return self._client.presigned_url(key, valid_for_s=valid_for_s, upload=upload)

    async def put_presigned(
        self, key: str, signed: Headers, sent: Headers, body: bytes, *, source: str = ""
    ) -> ChangeResult:
        """Send a presigned PUT (PutObject). `source` is sent as `x-amz-copy-source`."""
        if source:
            sent = {**sent, "x-amz-copy-source": self._client.copy_source(source)}
        call = Call("PutObject", "PUT", key, headers=sent, body=body, expected=_ANY_REFUSAL)
        response = await self._client.send(replace(call, presigned=signed))
        return _result_of(response, None if source else _etag_in_head)

    async def bucket_rules(self, kind: str) -> Sequence[frozenset[tuple[str, str]]]:
        """Return the bucket's rules (GetBucketCors, GetBucketLifecycleConfiguration)."""
        call = Call(f"GetBucket{kind.title()}", "GET", query={kind: ""}, expected=_MISSING)
        response = await self._client.send(call)
        if response.status in _MISSING:
            return []
        with _reading(f"{kind} rules"):
            rules = xml.parse(response.body)
        return [frozenset((e.tag, (e.text or "").strip()) for e in rule.iter()) for rule in rules]

    async def check(self, *, writing: bool, deadline: float | None = None) -> None:
        """Check access by requesting a missing key and, if `writing`, aborting a missing upload.

        The abort changes nothing, is free on R2, and creates no delete marker in a bucket with
        versioning. A bucket may refuse it for any reason except a missing permission.
        """
        call = Call("GetObject", "GET", _CHECKED_KEY, expected=_MISSING)
        await self._client.send(call, deadline=deadline)
        if writing:
            call = _abortion(_CHECKED_KEY, _CHECKED_UPLOAD, _NO_SUCH_UPLOAD)
            await self._client.send(call, deadline=deadline)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except xml.BrokenXml as error:
        raise BackendUnavailable(f"the bucket sent {what} that cannot be read") from error


def _abortion(key: str, upload_id: str, expected: frozenset[int]) -> Call:
    query = {"uploadId": upload_id}
    return Call("AbortMultipartUpload", "DELETE", key, query=query, expected=expected)


def _fields_of(guard: Guard | None) -> dict[str, str]:
    if guard is None:
        return {}
    return {"if-none-match": "*"} if guard.etag is None else {"if-match": guard.etag}


def _result_of(
    response: BucketResponse, etag_of: Callable[[BucketResponse], str] | None = None
) -> ChangeResult:
    if 200 <= response.status < 300:  # noqa: PLR2004  (2xx)
        return ChangeResult(etag_of and etag_of(response), doubtful=response.doubtful)
    refusal = _REFUSALS.get(response.status, Refusal.UNSUPPORTED)
    return ChangeResult(None, refusal, str(response.status), response.doubtful)


def _etag_in_head(response: BucketResponse) -> str:
    return strong_etag(response.headers.get("etag"))


def _etag_in_body(response: BucketResponse) -> str:
    return strong_etag(_text_of(response, "ETag"))


def _text_of(response: BucketResponse, name: str) -> str:
    try:
        text = xml.parse(response.body).findtext(name)
    except xml.BrokenXml as error:
        raise BackendUnavailable(
            f"the bucket sent a malformed response instead of one with {name}"
        ) from error
    if not text:
        raise BackendUnavailable(f"the bucket sent a response without {name}")
    return text


def _start_after(prefix: str, after: str) -> Mapping[str, str]:
    if prefix.startswith(after) and (prefix != after or after.endswith("/")):
        return {}  # all keys with this prefix come after `after`
    return {"start-after": after}


def _tree_order(entry: str) -> str:
    """Return the sort key of an entry in the order of SeaweedFS, where `a/` is before `a-b`.

    A page must end with its last entry in this order. Otherwise, the next page repeats entries.
    """
    return entry.removesuffix("/")
