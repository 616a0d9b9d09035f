"""Error responses: status codes, headers and JSON bodies."""

import json
from dataclasses import dataclass
from typing import Final

from stillroom import errors

STATUS: Final[dict[type[errors.StillroomError], int]] = {
    errors.MalformedBody: 400,
    errors.Unauthenticated: 401,
    errors.TokenExpired: 401,
    errors.SignInCodeSpent: 401,
    errors.Forbidden: 403,
    errors.GrantInvalid: 403,
    errors.GrantExpired: 403,
    errors.ImageNotFound: 404,
    errors.RunNotFound: 404,
    errors.TrashNotFound: 404,
    errors.ResourceNotFound: 404,
    errors.DeadLetterNotFound: 404,
    errors.ImplausibleScan: 409,
    errors.PathConflict: 409,
    errors.UploadMissing: 409,
    errors.GrantSpent: 409,
    errors.RunConflict: 409,
    errors.ResourceProtected: 409,
    errors.ResourceConflict: 409,
    errors.CursorExpired: 410,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.InvalidInput: 422,
    errors.InvalidPath: 422,
    errors.InvalidParameter: 422,
    errors.InvalidUpload: 422,
    errors.EmptyFile: 422,
    errors.DigestMismatch: 422,
    errors.ConditionUnsupported: 501,
    errors.ListingUnsupported: 501,
    errors.FeatureOff: 501,
    errors.BackendUnavailable: 503,
    errors.ReadOnly: 503,
    errors.StorageFull: 507,
    errors.ConfigurationError: 500,
}

ERROR_FIELD: Final = "stillroom-error"  # header with the code, for HEAD and replaced bodies
RETRY_AFTER_S: Final = 5  # value of the header in responses with status 503

# Headers that forbid browsers to sniff the content type, to run scripts, and to use a frame.
DATA_HEADERS: Final = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
)

JSON_HEADERS: Final = (("content-type", "application/json"), *DATA_HEADERS)


@dataclass(frozen=True, slots=True)
class Problem:
    """Error response: status code, headers and JSON body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def problem(error: errors.StillroomError, request_id: str = "") -> Problem:
    """Return the response for an exception. The request id is included if the status is 5xx."""
    status = STATUS[type(error)]
    headers: list[tuple[str, str]] = []
    if status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, errors.Forbidden):
        scope = f', scope="{error.scope}"' if error.scope else ""
        headers.append(("www-authenticate", f'Bearer error="insufficient_scope"{scope}'))
    if status == 404:
        # Otherwise a CDN would cache the 404 for minutes and hide an image saved meanwhile.
        headers.append(("cache-control", "no-store"))
    if status == 503:
        headers.append(("retry-after", str(RETRY_AFTER_S)))
    detail: object = str(error)
    if isinstance(error, errors.InvalidInput):
        detail = [{"loc": list(error.at), "msg": str(error), "type": error.code}]
    content = {"detail": detail, "code": error.code}
    if isinstance(error, errors.UnsupportedMedia) and error.is_cut_off:
        content["cut_off"] = True
    if isinstance(error, errors.RunConflict) and error.count is not None:
        content["count"] = error.count
    return _problem(status, headers, content, request_id)


def plain_problem(status: int, message: str, code: str, request_id: str = "") -> Problem:
    """Return an error response for a status, a message for people, and a code for programs."""
    return _problem(status, [], {"detail": message, "code": code}, request_id)


def internal_error(request_id: str) -> Problem:
    """Return the response for an unexpected exception. The caller has logged the exception."""
    message = "internal server error; see the server log for this request id"
    return plain_problem(500, message, "bug", request_id)


def _problem(
    status: int, headers: list[tuple[str, str]], content: dict[str, object], request_id: str
) -> Problem:
    if request_id and status >= 500:
        content["detail"] = f"{content['detail']} (request {request_id})"
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")
    headers += [(ERROR_FIELD, str(content["code"])), *JSON_HEADERS]
    return Problem(status, [*headers, ("content-length", str(len(body)))], body)
