"""One upload in parts: begun, sent part by part, and then either completed or aborted.

R2 wants all parts but the last to be of one size
(https://developers.cloudflare.com/r2/objects/multipart-objects/), so the caller cuts them.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.objects import etag_of, strong_etag
from stillroom.storage.s3 import xml
from stillroom.storage.s3.client import DEADLINE_S, Answer, BucketClient, Call

PART_BYTES: Final = 16 * 1024**2
"""Between S3's 5 MiB and 5 GiB; each upload under way holds one part in memory."""

MAX_PARTS: Final = 10_000
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


class MultipartUpload:
    """Parts that wait to become an object.

    Attributes:
        key: Of that object.
        upload_id: As the bucket calls it.
    """

    def __init__(self, client: BucketClient, key: str, upload_id: str) -> None:
        self.key = key
        self.upload_id = upload_id
        self._client = client
        self._etags: list[str] = []

    @classmethod
    async def begin(
        cls, client: BucketClient, key: str, headers: Mapping[str, str], leftovers: AbandonedUploads
    ) -> "MultipartUpload":
        """Begin one; `headers` are those of the object that it will be.

        Raises:
            BackendUnavailable: as its name says.
        """
        call = Call("CreateMultipartUpload", "POST", key, query={"uploads": ""}, headers=headers)
        try:
            answer = await client.send(call)
            upload_id = _text_of(answer, "UploadId")
        except BaseException:
            leftovers.doubt(key)
            raise
        if answer.doubtful:
            leftovers.doubt(key)
        return cls(client, key, upload_id)

    async def send(self, part: memoryview, sha256: str) -> None:
        """Send the next part.

        Raises:
            BackendUnavailable: as its name says.
        """
        number = len(self._etags) + 1
        call = Call(
            "UploadPart",
            "PUT",
            self.key,
            query={"partNumber": str(number), "uploadId": self.upload_id},
            body=part,
            sha256=sha256,
        )
        answer = await self._client.send(call)
        self._etags.append(etag_of(answer.headers))

    def completion(self, guard: Mapping[str, str]) -> Call:
        """The call that makes the parts an object; 404 means that the upload is over."""
        body = xml.completion(self._etags)
        return Call(
            "CompleteMultipartUpload",
            "POST",
            self.key,
            query={"uploadId": self.upload_id},
            headers={"content-type": "application/xml", **guard},
            body=body,
            sha256=hashlib.sha256(body).hexdigest(),
            expected=frozenset((404, 412)),
            timeout_s=DEADLINE_S,
        )


def completed_etag(answer: Answer) -> str:
    """The ETag of the object that the parts became.

    Raises:
        BackendUnavailable: the answer has none.
    """
    return strong_etag(_text_of(answer, "ETag"))


def _text_of(answer: Answer, name: str) -> str:
    try:
        text = xml.read(answer.body).find(name)
    except xml.BrokenXml as error:
        raise BackendUnavailable(f"the bucket sent a broken document without {name}") from error
    if not text:
        raise BackendUnavailable(f"the bucket sent a document without {name}")
    return text
