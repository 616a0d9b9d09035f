"""Everything that Stillroom raises on purpose.

StillroomError
├── InvalidInput            what the caller sent is not what the operation takes
│   ├── InvalidPath         the name is no image path
│   ├── InvalidParameter    a query parameter is missing its form
│   ├── InvalidUpload       no `file` part, two, or one that is no file
│   ├── EmptyFile           a file of no bytes
│   └── DigestMismatch      the bytes that came are not those that were announced
├── Unauthenticated         no token, or not a valid one; never says which
│   ├── TokenExpired        one that was valid until its `exp`
│   └── SignInCodeSpent     the code of a sign-in link that was used, or is too old
├── Forbidden               a valid token that does not cover this
├── ImageNotFound           no image under this path
├── RunNotFound             no images in this folder, and no manifest
├── RunConflict             a run is not what was expected, or was published as another set
├── ResourceNotFound        no such resource in the media library
├── DeadLetterNotFound      no deletion with this id was given up
├── ResourceProtected       the resource may not be deleted
├── ResourceConflict        bytes to be ingested are being deleted, or a resource has lost them
├── ImplausibleScan         so much seems to be wrong that the scan itself must be
├── PathConflict            a folder stands where a file should go, or the other way round
├── ConditionUnsupported    the bucket cannot hold to the request's condition
├── ListingUnsupported      the bucket has no order in which listings could go on
├── PreconditionFailed      If-Match or If-None-Match does not hold
├── MalformedBody           the multipart body is broken or incomplete
├── UnsupportedMedia        not multipart, or not an image where one is required
├── TooLarge                more bytes than allowed
├── StorageFull             the medium has no room
├── BackendUnavailable      the medium failed, or the outcome is unknown; a retry may succeed
│   └── ReadOnly            a sync failed: nothing is accepted until a restart
└── ConfigurationError      the settings cannot work; stops the start with one sentence

`code` is public API: clients branch on it, so it never changes. Messages may.
HTTP numbers are not here; `http/problems.py` owns that table.
"""

from typing import ClassVar


class StillroomError(Exception):
    """The root of the tree; never raised itself."""

    code: ClassVar[str] = "error"


class InvalidInput(StillroomError):
    """What the caller sent is not what the operation takes.

    Args:
        message: One sentence for the caller.
        at: Where in the request, as FastAPI spells it: `("query", "limit")`.
    """

    code = "invalid_input"

    def __init__(self, message: str, *, at: tuple[str, ...]) -> None:
        super().__init__(message)
        self.at = at


class InvalidPath(InvalidInput):
    """The name is no image path."""

    code = "invalid_path"

    def __init__(self, message: str, *, at: tuple[str, ...] = ("path", "path")) -> None:
        super().__init__(message, at=at)


class InvalidParameter(InvalidInput):
    """A query parameter does not have the form it needs."""

    code = "invalid_parameter"


class InvalidUpload(InvalidInput):
    """A well-formed form without a `file` part, with two, or with one that is no file."""

    code = "invalid_upload"

    def __init__(self, message: str) -> None:
        super().__init__(message, at=("body", "file"))


class EmptyFile(InvalidInput):
    """The file has no bytes; most often a stream that was read before and not rewound."""

    code = "empty_file"

    def __init__(self) -> None:
        super().__init__(
            "the file is empty; rewind the stream before sending it", at=("body", "file")
        )


class DigestMismatch(InvalidInput):
    """The bytes that came are not those that `Repr-Digest` announced."""

    code = "digest_mismatch"

    def __init__(self, message: str) -> None:
        super().__init__(message, at=("header", "repr-digest"))


class Unauthenticated(StillroomError):
    """Unauthorized: missing or invalid token. The message never says which."""

    code = "unauthenticated"

    def __init__(self, message: str = "a valid bearer token is required") -> None:
        super().__init__(message)


class TokenExpired(Unauthenticated):
    """A token that is valid but for its `exp`; told, since only its owner can show one."""

    code = "token_expired"

    def __init__(self) -> None:
        super().__init__("the token has expired")


class SignInCodeSpent(Unauthenticated):
    """The code of a sign-in link that was used or is too old, or that is none."""

    code = "sign_in_code_spent"

    def __init__(self) -> None:
        super().__init__("this sign-in link was used before, or is more than ten minutes old")


class Forbidden(StillroomError):
    """A valid token whose scope or prefix does not cover this."""

    code = "forbidden"


class ImageNotFound(StillroomError):
    """No image under this path."""

    code = "not_found"

    def __init__(self) -> None:
        super().__init__("no such image")


class RunNotFound(StillroomError):
    """No images in this folder, and no manifest of a run."""

    code = "run_not_found"

    def __init__(self) -> None:
        super().__init__("no such run: the folder has no images")


class RunConflict(StillroomError):
    """A run is not what was expected, or was published as another set of images.

    Args:
        message: One sentence for the caller.
        count: How many images the run has, where that is known.
    """

    code = "run_conflict"
    count: int | None = None

    def __init__(self, message: str, *, count: int | None = None) -> None:
        super().__init__(message)
        self.count = count


class ResourceNotFound(StillroomError):
    """No such resource in the media library, or its deletion is due."""

    code = "resource_not_found"

    def __init__(self) -> None:
        super().__init__("no such resource")


class DeadLetterNotFound(StillroomError):
    """No deletion with this id was given up; it may have been retried or dropped meanwhile."""

    code = "dead_letter_not_found"

    def __init__(self) -> None:
        super().__init__("no such dead letter")


class ResourceProtected(StillroomError):
    """The resource is protected, so it is not deleted."""

    code = "resource_protected"

    def __init__(self) -> None:
        super().__init__('the resource is protected: set "protected" to false first')


class ResourceConflict(StillroomError):
    """The bytes cannot be relied on: they are being deleted, or a resource has lost them."""

    code = "resource_conflict"

    def __init__(
        self,
        message: str = "a resource from outside of the token's folder has the same bytes, and is "
        "being deleted or has lost them: try again later, or ingest with a token for the whole "
        "library",
    ) -> None:
        super().__init__(message)


class ImplausibleScan(StillroomError):
    """So much seems to be wrong that the scan must be: nothing was deleted."""

    code = "implausible_scan"


class PathConflict(StillroomError):
    """A folder stands where a file should go, or a file where a folder should."""

    code = "path_conflict"


class PreconditionFailed(StillroomError):
    """If-Match or If-None-Match does not hold; nothing was changed."""

    code = "precondition_failed"

    def __init__(self, message: str = "a condition of the request failed") -> None:
        super().__init__(message)


class ConditionUnsupported(StillroomError):
    """The storage cannot hold to the request's condition, so nothing was changed."""

    code = "condition_unsupported"


class ListingUnsupported(StillroomError):
    """The storage lists in no order, so pages of a listing cannot be put together."""

    code = "listing_unsupported"


class MalformedBody(StillroomError):
    """The multipart body is broken, or ended before its closing boundary."""

    code = "malformed_body"


class UnsupportedMedia(StillroomError):
    """Not multipart/form-data; or not an image where one is required.

    Args:
        message: One sentence for the caller.
        is_cut_off: It is an image, whose file ends too early.
    """

    code = "unsupported_media"

    def __init__(self, message: str, *, is_cut_off: bool = False) -> None:
        super().__init__(message)
        self.is_cut_off = is_cut_off


class TooLarge(StillroomError):
    """More bytes than allowed."""

    code = "too_large"


class StorageFull(StillroomError):
    """The medium has no room for this image."""

    code = "storage_full"


class BackendUnavailable(StillroomError):
    """The medium failed, or the outcome is unknown. A retry may succeed."""

    code = "backend_unavailable"


class ReadOnly(BackendUnavailable):
    """A sync failed once, so no save can be promised to last until a restart."""

    code = "read_only"


class ConfigurationError(StillroomError):
    """The settings cannot work. The message names the setting and the remedy."""

    code = "configuration"
