"""Classification of S3 errors: which ones to retry, and advice for the operator."""

import logging
import re
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.store.connections import NotConnectedError
from stillroom.store.s3 import xml
from stillroom.store.s3.calls import BucketError, BucketResponse, Call

_TRANSIENT_STATUSES: Final = frozenset((408, 429, 500, 502, 503, 504, *range(520, 528)))
"""Status codes that are retried. Cloudflare sends 520 to 527 if it could not reach the bucket.
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/"""

NOTHING_DONE: Final = frozenset(
    ("BadDigest", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch")
)
"""Codes that are retried, and which mean that certainly nothing was changed. `BadDigest` and
`XAmzContentSHA256Mismatch` mean that the body was damaged during the transfer."""

_TRANSIENT_CODES: Final = NOTHING_DONE.union(
    ("ConditionalRequestConflict", "InternalError", "OperationAborted", "ServiceUnavailable")
)
"""Codes that are retried: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

_SENDS_ERRORS_WITH_200: Final = frozenset({"CompleteMultipartUpload", "CopyObject"})
_STATUS_OF_CODE: Final = {"NoSuchUpload": 404, "NoSuchKey": 404, "PreconditionFailed": 412}

_ADVICE: Final = {
    "AccessDenied": "the token needs `Object Read & Write` on this bucket",
    "ExpiredToken": "R2_SESSION_TOKEN has expired: restart with new temporary credentials",
    "InvalidAccessKeyId": (
        "R2_ENDPOINT_URL does not know R2_ACCESS_KEY_ID (the key of temporary credentials "
        "needs their R2_SESSION_TOKEN)"
    ),
    "InvalidBucketName": "R2_BUCKET_NAME is not a valid name of a bucket",
    "InvalidToken": "R2_SESSION_TOKEN does not belong to R2_ACCESS_KEY_ID",
    "NoSuchBucket": "R2_BUCKET_NAME names a bucket that does not exist at R2_ENDPOINT_URL",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "R2_SECRET_ACCESS_KEY does not belong to R2_ACCESS_KEY_ID",
    "Unauthorized": "R2_ENDPOINT_URL does not know R2_ACCESS_KEY_ID",
}
_GENERAL_ADVICE: Final = (
    "check R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and R2_BUCKET_NAME, "
    "and that the token has `Object Read & Write` on this bucket"
)

_OTHER_REGION: Final = (
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
)
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")

log = logging.getLogger("stillroom.r2")


class Refusals:
    """Converter of error responses to exceptions. It logs an error once, even if it is repeated."""

    def __init__(self) -> None:
        self._logged: dict[str, str] = {}

    def raise_unexpected(self, call: Call, response: BucketResponse) -> None:
        """Raise `BackendUnavailable`, with advice, unless the response is expected."""
        succeeded = 200 <= response.status < 300  # noqa: PLR2004  (2xx)
        code = "" if succeeded else xml.error_field(response.body)
        if succeeded or (response.status in call.expected and code != "NoSuchBucket"):
            if self._logged.pop(call.operation, None) is not None:
                log.info("the bucket accepts %s again", call.operation)
            return
        error = BucketError(f"{call.operation}: {response.status} {code}".rstrip())
        advice = _advice(response, code)
        if advice is not None:
            self._log(call, f"the bucket refuses this server ({error}): {advice}")
            raise BackendUnavailable(f"the bucket refuses this server: {advice}") from error
        self._log(call, f"unexpected response from the bucket: {error}")
        raise BackendUnavailable(
            "unexpected response from the bucket; see the server log"
        ) from error

    def _log(self, call: Call, message: str) -> None:
        if self._logged.get(call.operation) != message:
            self._logged[call.operation] = message
            log.error("%s", message)


def _advice(response: BucketResponse, code: str) -> str | None:
    if response.status in (301, 307) or code in _OTHER_REGION:
        # Redirects are not followed, since the other host would receive the image and the token.
        named = response.headers.get("x-amz-bucket-region") or xml.error_field(
            response.body, "Region"
        )
        region = named if named and _REGION.fullmatch(named) else "its own"
        return (
            f"the bucket is in another region: set R2_REGION to {region}, and R2_ENDPOINT_URL to "
            "that region's endpoint"
        )
    if code in _ADVICE or response.status in (401, 403):
        # Responses to HEAD have no error code. R2 sends 401 only for unknown access keys.
        unknown = "Unauthorized" if response.status == 401 else ""  # noqa: PLR2004  (Unauthorized)
        return _ADVICE.get(code or unknown, _GENERAL_ADVICE)
    return None


def unmask_error(call: Call, response: BucketResponse) -> BucketResponse:
    """Correct the status code of an error response that was sent with 200.

    S3 sends 200 early if an operation takes long, and reports the error in the body:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    is_masked = call.operation in _SENDS_ERRORS_WITH_200 and response.status == 200  # noqa: PLR2004  (OK)
    if not is_masked or not (code := xml.error_field(response.body)):
        return response
    status = 500 if code in _TRANSIENT_CODES else _STATUS_OF_CODE.get(code, 400)
    return BucketResponse(status, response.headers, response.body)


def outcome_of(call: Call, response: BucketResponse) -> str:
    """Return the outcome of an attempt as a label for metrics."""
    if response.status < 300:  # noqa: PLR2004  (2xx)
        return "ok"
    if response.status in call.expected:
        return {404: "missing", 412: "precondition"}.get(response.status, "ok")
    if response.status == 429:  # noqa: PLR2004  (Too Many Requests)
        return "throttled"
    return "error" if response.status >= 500 else "refused"  # noqa: PLR2004  (server errors)


def failure_of(error: OSError) -> str:
    """Return the reason for a missing response as a label for metrics."""
    if isinstance(error, NotConnectedError):
        return "unreachable"
    return "timeout" if isinstance(error, TimeoutError) else "broken"


def transient_code(response: BucketResponse) -> str | None:
    """Return the error code of a response if a retry may succeed, else None."""
    if response.status < 400:  # noqa: PLR2004  (errors begin there)
        return None
    code = xml.error_field(response.body)
    is_transient = response.status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES
    return code if is_transient else None


def retry_after_s(response: BucketResponse) -> float:
    """Return the seconds in a response's Retry-After header (RFC 9110, 10.2.3), else 0."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
