"""All exceptions that Stillroom raises on purpose.

`code` is public API, so it never changes. Messages may change. If a response has no message, the
SDK uses `message` or else the first line of the docstring. `store/http/problems.py` defines the
HTTP status codes.
"""

from typing import ClassVar


class StillroomError(Exception):
    """Base class of all errors; never raised itself. `message` is the default message."""

    code: ClassVar[str] = "error"
    message: ClassVar[str] = ""

    def __init_subclass__(cls, *, code: str | None = None) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


class InvalidInput(StillroomError, code="invalid_input"):
    """The input of the request is invalid.

    `at` is its location in the request, as in FastAPI: `("query", "limit")`.
    """

    at: tuple[str, ...] = ()

    def __init__(self, message: str = "", *, at: tuple[str, ...] | None = None) -> None:
        super().__init__(message)
        self.at = self.at if at is None else at


class InvalidPath(InvalidInput, code="invalid_path"):
    """The name is not the path of an image."""

    at = ("path", "path")


class InvalidParameter(InvalidInput, code="invalid_parameter"):
    """A query parameter is malformed."""


class InvalidUpload(InvalidInput, code="invalid_upload"):
    """The form has no `file` part, two of them, or one that is not a file."""

    at = ("body", "file")


class EmptyFile(InvalidInput, code="empty_file"):
    """The file has no bytes; usually a stream was read before and not rewound."""

    at = ("body", "file")
    message = "the file is empty: if you send a stream, rewind it first"


class DigestMismatch(InvalidInput, code="digest_mismatch"):
    """The received bytes are not those that `Repr-Digest` announced."""

    at = ("header", "repr-digest")


class Unauthenticated(StillroomError, code="unauthenticated"):
    """The token is missing or invalid."""  # the server never says which

    message = "a valid bearer token is required"


class TokenExpired(Unauthenticated, code="token_expired"):
    """The token has expired."""  # may be said, since only the owner can present the token

    message = "the token has expired"


class SignInCodeSpent(Unauthenticated, code="sign_in_code_spent"):
    """The code of a sign-in link is unknown, was used before, or is too old."""

    message = "this sign-in link was used before, or is more than ten minutes old"


class Forbidden(StillroomError, code="forbidden"):
    """The token is valid, but its scope or prefix does not permit this.

    `scope` is the scope that the token lacks, if it is known.
    """

    scope: str | None = None  # the SDK creates errors without calling `__init__`

    def __init__(self, message: str = "", *, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class CursorExpired(StillroomError, code="cursor_expired"):
    """The events after this cursor were deleted, or the cursor is from another database."""

    message = (
        "events after this cursor were deleted: read the feed from its beginning, without `after`, "
        "and compare with a listing what you may have missed"
    )


class ImageNotFound(StillroomError, code="not_found"):
    """No image under this path."""

    message = "no such image"


class RunNotFound(StillroomError, code="run_not_found"):
    """The folder has no images and no manifest of a run."""

    message = "no such run: the folder has no images"


class RunConflict(StillroomError, code="run_conflict"):
    """The run is not as expected, or was published with other images.

    `count` is the number of images in the run, if it is known.
    """

    count: int | None = None  # the SDK creates errors without calling `__init__`

    def __init__(self, message: str, *, count: int | None = None) -> None:
        super().__init__(message)
        self.count = count


class TrashNotFound(StillroomError, code="trash_not_found"):
    """Nothing in the trash has this id; it may have been restored or deleted for good meanwhile."""

    message = "nothing in the trash has this id"


class ResourceNotFound(StillroomError, code="resource_not_found"):
    """The media library has no such resource, or its deletion is due."""

    message = "no such resource"


class DeadLetterNotFound(StillroomError, code="dead_letter_not_found"):
    """No failed deletion has this id; it may have been retried or dropped meanwhile."""

    message = "there is no failed deletion with this id"


class ResourceProtected(StillroomError, code="resource_protected"):
    """The resource is protected from deletion."""

    message = 'the resource is protected: set "protected" to false first'


class ResourceConflict(StillroomError, code="resource_conflict"):
    """A resource with the same bytes is being deleted, or its file is missing."""

    message = (
        "a resource in another folder has the same bytes, and it is being deleted or "
        "has lost them: try again later, or ingest with a token for the whole library"
    )


class ImplausibleScan(StillroomError, code="implausible_scan"):
    """The scan found so many problems that the scan itself must be wrong; nothing was deleted."""


class PathConflict(StillroomError, code="path_conflict"):
    """The path is taken: by a folder, by a file where a folder should be, or by another image."""


class UploadMissing(StillroomError, code="upload_missing"):
    """The grant has no upload yet, or its upload was deleted after 24 hours."""

    message = "nothing was uploaded with this grant yet: send the file to its URL first"


class GrantInvalid(StillroomError, code="grant_invalid"):
    """The grant, or the URL of an upload, was not signed by this server, or was changed."""

    message = "the upload grant is not valid"


class GrantExpired(StillroomError, code="grant_expired"):
    """The upload grant has expired."""

    message = "the upload grant has expired: ask for another one"


class GrantSpent(StillroomError, code="grant_spent"):
    """The grant was completed before, and its image was replaced or deleted afterwards."""

    message = "the upload grant was used before, and its image was replaced or deleted"


class PreconditionFailed(StillroomError, code="precondition_failed"):
    """A condition, `If-Match` or `If-None-Match`, does not hold; nothing was changed."""

    message = "a condition in the headers of the request is not met"


class ConditionUnsupported(StillroomError, code="condition_unsupported"):
    """The storage cannot enforce the request's condition, so nothing was changed."""


class FeatureOff(StillroomError, code="feature_off"):
    """The server runs without the feature that the request needs."""


class ListingUnsupported(StillroomError, code="listing_unsupported"):
    """The storage has no stable order, so a listing cannot be continued on another page."""


class MalformedBody(StillroomError, code="malformed_body"):
    """The multipart body is broken, or ended before its closing boundary."""


class UnsupportedMedia(StillroomError, code="unsupported_media"):
    """The body is not multipart/form-data, or not an image where one is required.

    With `is_cut_off`, it is an image whose file ends too early.
    """

    def __init__(self, message: str, *, is_cut_off: bool = False) -> None:
        super().__init__(message)
        self.is_cut_off = is_cut_off


class TooLarge(StillroomError, code="too_large"):
    """More bytes than allowed."""


class StorageFull(StillroomError, code="storage_full"):
    """The storage has no space left for this image."""


class BackendUnavailable(StillroomError, code="backend_unavailable"):
    """The storage failed, or the outcome is unknown. A retry may succeed."""


class ReadOnly(BackendUnavailable, code="read_only"):
    """Writing to the disk failed (fsync), so nothing can be saved until the server is restarted."""


class ConfigurationError(StillroomError, code="configuration"):
    """The settings cannot work. The message names the setting and the remedy."""
