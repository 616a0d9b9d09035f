"""What an error of S3 means: whether to try again, and what to tell the operator."""

import logging
import re
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.storage.s3 import xml
from stillroom.storage.s3.calls import Answer, BucketError, Call
from stillroom.storage.s3.connections import NotConnectedError

_TRANSIENT_STATUSES: Final = frozenset((408, 429, 500, 502, 503, 504, *range(520, 528)))
"""520 to 527 are Cloudflare's: its edge did not reach the bucket.
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/"""

_TRANSIENT_CODES: Final = frozenset(
    {
        "BadDigest",  # the body arrived damaged
        "ConditionalRequestConflict",  # a racing write to the key; ask again for its outcome
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentSHA256Mismatch",
    }
)
"""https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

NOTHING_DONE: Final = frozenset(
    {"BadDigest", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
)
_SAYS_ERRORS_WITH_200: Final = frozenset({"CompleteMultipartUpload", "CopyObject"})
_STATUS_OF_CODE: Final = {"NoSuchUpload": 404, "NoSuchKey": 404, "PreconditionFailed": 412}

_ADVICE: Final = {
    "AccessDenied": "the token needs `Object Read & Write` on this bucket",
    "ExpiredToken": "R2_SESSION_TOKEN has expired: restart with new temporary credentials",
    "InvalidAccessKeyId": (
        "R2_ENDPOINT_URL knows no such R2_ACCESS_KEY_ID "
        "(the key of temporary credentials needs their R2_SESSION_TOKEN)"
    ),
    "InvalidBucketName": "R2_BUCKET_NAME is no name of a bucket",
    "InvalidToken": "R2_SESSION_TOKEN does not belong to R2_ACCESS_KEY_ID",
    "NoSuchBucket": "R2_BUCKET_NAME names no bucket behind R2_ENDPOINT_URL",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "R2_SECRET_ACCESS_KEY does not belong to R2_ACCESS_KEY_ID",
    "Unauthorized": "R2_ENDPOINT_URL knows no such R2_ACCESS_KEY_ID",
}
_GENERAL_ADVICE: Final = (
    "check R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and R2_BUCKET_NAME, "
    "and that the token has `Object Read & Write` on this bucket"
)

_OTHER_REGION: Final = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")

log = logging.getLogger("stillroom.r2")


class Refusals:
    """Raises what a bucket refuses, and logs when it begins to and when it ends.

    Probes ask every few seconds, and each request that fails has a line of its own.
    """

    def __init__(self) -> None:
        """Begin with a bucket that refuses nothing."""
        self._logged: dict[str, str] = {}

    def raise_unexpected(self, call: Call, answer: Answer) -> None:
        """Raise for an answer that is no success, and that the caller did not expect.

        Raises:
            BackendUnavailable: with advice where the answer says what is wrong with the settings.
        """
        succeeded = 200 <= answer.status < 300  # noqa: PLR2004  (2xx)
        code = "" if succeeded else xml.error_code(answer.body)
        if succeeded or (answer.status in call.expected and code != "NoSuchBucket"):
            if self._logged.pop(call.operation, None) is not None:
                log.info("the bucket carries out %s again", call.operation)
            return
        error = BucketError(f"{call.operation}: {answer.status} {code}".rstrip())
        advice = _advice(answer, code)
        if advice is not None:
            self._log(call, f"the bucket refuses us ({error}): {advice}")
            raise BackendUnavailable(f"the bucket refuses this server: {advice}") from error
        self._log(call, f"unexpected response from the bucket: {error}")
        raise BackendUnavailable(
            "unexpected response from the bucket; see the server log"
        ) from error

    def _log(self, call: Call, said: str) -> None:
        if self._logged.get(call.operation) != said:
            self._logged[call.operation] = said
            log.error("%s", said)


def _advice(answer: Answer, code: str) -> str | None:
    """What to do about a refusal, if that can be told."""
    if answer.status in (301, 307) or code in _OTHER_REGION:
        # Not followed: the next host would get our images and our session token.
        said = answer.headers.get("x-amz-bucket-region") or xml.error_field(answer.body, "Region")
        region = said if said and _REGION.fullmatch(said) else "its own"
        return (
            f"the bucket is in another region: set R2_REGION to {region}, and R2_ENDPOINT_URL to "
            "that region's endpoint"
        )
    if code in _ADVICE or answer.status in (401, 403):
        # After a HEAD there is no code; R2 says 401 to unknown keys and to nothing else.
        unknown = "Unauthorized" if answer.status == 401 else ""  # noqa: PLR2004  (Unauthorized)
        return _ADVICE.get(code or unknown, _GENERAL_ADVICE)
    return None


def unmasked(call: Call, answer: Answer) -> Answer:
    """Give an error its status: S3 answers what takes long with 200 before it knows.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    if call.operation not in _SAYS_ERRORS_WITH_200 or answer.status != 200:  # noqa: PLR2004  (OK)
        return answer
    code = xml.error_code(answer.body)
    if not code:
        return answer
    status = 500 if code in _TRANSIENT_CODES else _STATUS_OF_CODE.get(code, 400)
    return Answer(status, answer.headers, answer.body)


def outcome_of(call: Call, answer: Answer) -> str:
    """What became of an attempt, in one word, for the numbers."""
    if answer.status < 300:  # noqa: PLR2004  (2xx)
        return "ok"
    if answer.status in call.expected:
        return {404: "missing", 412: "precondition"}.get(answer.status, "ok")
    if answer.status == 429:  # noqa: PLR2004  (Too Many Requests)
        return "throttled"
    return "error" if answer.status >= 500 else "refused"  # noqa: PLR2004  (server errors)


def failure_of(error: OSError) -> str:
    """Why there was no answer, in one word."""
    if isinstance(error, NotConnectedError):
        return "unreachable"
    return "timeout" if isinstance(error, TimeoutError) else "broken"


def transient_code(answer: Answer) -> str | None:
    """The error code of an answer that another attempt may change; None for all others."""
    if answer.status < 400:  # noqa: PLR2004  (errors begin there)
        return None
    code = xml.error_code(answer.body)
    if answer.status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES:
        return code
    return None


def asked_pause(answer: Answer) -> float:
    """The seconds that the bucket wants us to wait (RFC 9110, 10.2.3); a date is not looked at."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
