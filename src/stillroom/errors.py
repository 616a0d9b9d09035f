"""All exceptions that Stillroom raises on purpose.

`code` is public API: clients depend on it, so it never changes. Messages may change. The SDK uses
the first line of a docstring as the message if a response has no message. HTTP status codes are
defined in `store/http/problems.py`.
"""

from typing import ClassVar


class StillroomError(Exception):
    """Base class of all errors; never raised itself. `message` is the default message."""

    code: ClassVar[str] = "error"
    message: ClassVar[str] = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


class InvalidInput(StillroomError):
    """The input of the request is invalid.

    `at` is its location in the request, as in FastAPI: `("query", "limit")`.
    """

    code = "invalid_input"
    at: tuple[str, ...] = ()

    def __init__(self, message: str = "", *, at: tuple[str, ...] | None = None) -> None:
        super().__init__(message)
        self.at = self.at if at is None else at


class InvalidPath(InvalidInput):
    """The name is not the path of an image."""

    code = "invalid_path"
    at = ("path", "path")


class InvalidParameter(InvalidInput):
    """A query parameter is malformed."""

    code = "invalid_parameter"


class InvalidUpload(InvalidInput):
    """The form has no `file` part, two of them, or one that is not a file."""

    code = "invalid_upload"
    at = ("body", "file")


class EmptyFile(InvalidInput):
    """The file has no bytes; usually a stream was read before and not rewound."""

    code = "empty_file"
    at = ("body", "file")
    message = "the file is empty: if you send a stream, rewind it first"


class DigestMismatch(InvalidInput):
    """The received bytes are not those that `Repr-Digest` announced."""

    code = "digest_mismatch"
    at = ("header", "repr-digest")


class Unauthenticated(StillroomError):
    """The token is missing or invalid."""  # the server never says which

    code = "unauthenticated"
    message = "a valid bearer token is required"


class TokenExpired(Unauthenticated):
    """The token has expired."""  # may be said, since only the owner can present the token

    code = "token_expired"
    message = "the token has expired"


class SignInCodeSpent(Unauthenticated):
    """The code of a sign-in link is unknown, was used before, or is too old."""

    code = "sign_in_code_spent"
    message = "this sign-in link was used before, or is more than ten minutes old"


class Forbidden(StillroomError):
    """The token is valid, but its scope or prefix does not permit this.

    `scope` is the scope that the token lacks, if it is known.
    """

    code = "forbidden"
    scope: str | None = None  # the SDK creates errors without calling `__init__`

    def __init__(self, message: str = "", *, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class CursorExpired(StillroomError):
    """The events after this cursor are no longer kept, or it is from another database."""

    code = "cursor_expired"
    message = (
        "events after this cursor were deleted: read the feed from its beginning, without `after`, "
        "and compare with a listing what you may have missed"
    )


class ImageNotFound(StillroomError):
    """No image under this path."""

    code = "not_found"
    message = "no such image"


class RunNotFound(StillroomError):
    """The folder has no images and no manifest of a run."""

    code = "run_not_found"
    message = "no such run: the folder has no images"


class RunConflict(StillroomError):
    """The run is not as expected, or was published with other images.

    `count` is the number of images in the run, if it is known.
    """

    code = "run_conflict"
    count: int | None = None  # the SDK creates errors without calling `__init__`

    def __init__(self, message: str, *, count: int | None = None) -> None:
        super().__init__(message)
        self.count = count


class ResourceNotFound(StillroomError):
    """The media library has no such resource, or its deletion is due."""

    code = "resource_not_found"
    message = "no such resource"


class DeadLetterNotFound(StillroomError):
    """No failed deletion has this id; it may have been retried or dropped meanwhile."""

    code = "dead_letter_not_found"
    message = "there is no failed deletion with this id"


class ResourceProtected(StillroomError):
    """The resource is protected from deletion."""

    code = "resource_protected"
    message = 'the resource is protected: set "protected" to false first'


class ResourceConflict(StillroomError):
    """A resource with the same bytes is being deleted, or its file is missing."""

    code = "resource_conflict"
    message = (
        "a resource in another folder has the same bytes, and it is being deleted or "
        "has lost them: try again later, or ingest with a token for the whole library"
    )


class ImplausibleScan(StillroomError):
    """The scan found so many problems that the scan itself must be wrong; nothing was deleted."""

    code = "implausible_scan"


class PathConflict(StillroomError):
    """A folder exists where a file should be, or a file where a folder should be."""

    code = "path_conflict"


class UploadMissing(StillroomError):
    """The grant has no upload yet, or its upload was deleted after 24 hours."""

    code = "upload_missing"
    message = "nothing was uploaded with this grant yet: send the file to its URL first"


class GrantInvalid(StillroomError):
    """The grant, or the URL of an upload, was not signed by this server, or was changed."""

    code = "grant_invalid"
    message = "the upload grant is not valid"


class GrantExpired(StillroomError):
    """The upload grant has expired."""

    code = "grant_expired"
    message = "the upload grant has expired: ask for another one"


class GrantSpent(StillroomError):
    """The grant was completed before, and its image was replaced or deleted afterwards."""

    code = "grant_spent"
    message = "the upload grant was used before, and its image was replaced or deleted"


class PreconditionFailed(StillroomError):
    """A condition, `If-Match` or `If-None-Match`, does not hold; nothing was changed."""

    code = "precondition_failed"
    message = "a condition in the headers of the request is not met"


class ConditionUnsupported(StillroomError):
    """The storage cannot enforce the request's condition, so nothing was changed."""

    code = "condition_unsupported"


class FeatureOff(StillroomError):
    """The server runs without the feature that the request needs."""

    code = "feature_off"


class ListingUnsupported(StillroomError):
    """The storage has no stable order, so a listing cannot be continued on another page."""

    code = "listing_unsupported"


class MalformedBody(StillroomError):
    """The multipart body is broken, or ended before its closing boundary."""

    code = "malformed_body"


class UnsupportedMedia(StillroomError):
    """The body is not multipart/form-data, or not an image where one is required.

    With `is_cut_off`, it is an image whose file ends too early.
    """

    code = "unsupported_media"

    def __init__(self, message: str, *, is_cut_off: bool = False) -> None:
        super().__init__(message)
        self.is_cut_off = is_cut_off


class TooLarge(StillroomError):
    """More bytes than allowed."""

    code = "too_large"


class StorageFull(StillroomError):
    """The storage has no space left for this image."""

    code = "storage_full"


class BackendUnavailable(StillroomError):
    """The storage failed, or the outcome is unknown. A retry may succeed."""

    code = "backend_unavailable"


class ReadOnly(BackendUnavailable):
    """Writing to the disk failed (fsync), so nothing can be saved until the server is restarted."""

    code = "read_only"


class ConfigurationError(StillroomError):
    """The settings cannot work. The message names the setting and the remedy."""

    code = "configuration"
