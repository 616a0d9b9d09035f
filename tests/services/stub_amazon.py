"""Amazon S3 as its documents describe it, where it differs from R2.

Virtual-hosted addresses, one region for a bucket and a redirect to it, temporary credentials, and
If-Match on DELETE. Signatures are compared with those of Amazon's own `botocore`.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html,
.../userguide/Redirects.html, .../userguide/conditional-deletes.html and
.../API/ErrorResponses.html
"""

import hmac
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services import stub_wire as wire
from services.stub_r2 import Conditions, StubR2
from services.stub_wire import BUCKET, KEY_ID, SECRET, bucket_of, error, xml
from stillroom.store.choose import R2Config

REGION = "eu-central-1"
SESSION_TOKEN = "FwoGZXIvYXdzE//stub+session=="


class StubAmazonS3(StubR2):
    """A general purpose bucket in one region, for temporary credentials alone.

    Another region's endpoint answers `redirect_status`: 307 while a bucket is new. It may take
    headers that are not signed, as no careful server does: `takes_unsigned_headers`.
    """

    keeps_refused_uploads = True

    def __init__(self) -> None:
        super().__init__()
        self.deletions = Conditions.HONOURED
        self.session_token: str | None = SESSION_TOKEN
        self.redirect_status = 301
        self.takes_unsigned_headers = False

    @property
    def config(self) -> R2Config:
        return replace(
            super().config, region=REGION, session_token=self.session_token, addressing="virtual"
        )

    @property
    def variables(self) -> dict[str, str]:
        token = self.session_token or ""
        more = {"R2_REGION": REGION, "R2_SESSION_TOKEN": token, "R2_ADDRESSING": "virtual"}
        return super().variables | more

    def endpoint_at(self, port: int) -> str:
        return f"http://s3.{REGION}.localhost:{port}"

    def refuse(self, request: web.Request) -> web.Response | None:
        if bucket_of(request) != BUCKET:
            return error(404, "NoSuchBucket")
        if f".{REGION}." not in request.host:
            return self._elsewhere(request)
        presigned = "X-Amz-Signature" in request.query
        given = request.query if presigned else request.headers
        text = given.get("X-Amz-Credential" if presigned else "authorization", "")
        scope = re.search(r"(?:^|Credential=)([^/ ]*)/\d{8}/([^/]*)/s3/aws4_request", text)
        if scope is None or scope[1] != KEY_ID:
            return error(403, "InvalidAccessKeyId")
        if scope[2] != REGION:
            return xml(
                f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{REGION}</Region></Error>",
                400,
            )
        token = given.get("X-Amz-Security-Token")
        if token != self.session_token:
            return error(403, "InvalidAccessKeyId") if token is None else error(400, "InvalidToken")
        return self._refuse_presigned(request) if presigned else self._refuse_signed(request)

    def _elsewhere(self, request: web.Request) -> web.Response:
        host = f"{BUCKET}.s3.{REGION}.localhost"
        code = "TemporaryRedirect" if self.redirect_status == 307 else "PermanentRedirect"
        answer = xml(
            f"<Error><Code>{code}</Code><Endpoint>{host}</Endpoint></Error>", self.redirect_status
        )
        answer.headers["x-amz-bucket-region"] = REGION
        if self.redirect_status == 307:
            answer.headers["location"] = f"http://{host}{request.path_qs}"
        return answer

    def _refuse_signed(self, request: web.Request) -> web.Response | None:
        names = re.search(r"SignedHeaders=([^,]*)", request.headers["authorization"])
        assert names is not None
        covered = {name: request.headers[name] for name in names[1].split(";")}
        unsigned = [
            name
            for name in request.headers
            if name.lower().startswith("x-amz-") and name.lower() not in covered
        ]
        if unsigned or "host" not in covered:
            return error(403, "AccessDenied")
        url = f"http://{request.host}{request.raw_path}"
        signed = AWSRequest(method=request.method, url=url, headers=covered)
        signed.context["timestamp"] = covered["x-amz-date"]
        auth = S3SigV4Auth(Credentials(KEY_ID, SECRET, self.session_token), "s3", REGION)
        wanted = auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed)
        given = request.headers["authorization"].partition("Signature=")[2]
        matches = hmac.compare_digest(wanted, given)
        return None if matches else error(403, "SignatureDoesNotMatch")

    def _refuse_presigned(self, request: web.Request) -> web.Response | None:
        began = datetime.strptime(request.query["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
        if began + timedelta(seconds=int(request.query["X-Amz-Expires"])) < datetime.now(UTC):
            return error(403, "AccessDenied")
        names = request.query["X-Amz-SignedHeaders"].split(";")
        unsigned = [
            name
            for name in request.headers
            if name.lower().startswith("x-amz-") and name.lower() not in names
        ]
        if unsigned and not self.takes_unsigned_headers:
            return error(403, "AccessDenied")
        matches = wire.is_presigned(request, REGION, self.session_token)
        return None if matches else error(403, "SignatureDoesNotMatch")

    def condition_failed(self, key: str) -> web.Response:
        """A guard of what is not there is 404."""
        return error(412, "PreconditionFailed") if key in self.objects else error(404, "NoSuchKey")
