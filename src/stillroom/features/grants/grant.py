"""Upload grants: signed texts that contain all terms of one upload. No database is needed."""

import base64
import dataclasses
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qsl, urlencode

from stillroom.errors import GrantInvalid, Unauthenticated
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.content_type import DEFAULT, INLINE
from stillroom.store.values import ANY, UNCONDITIONAL, Condition

KEPT_S: Final = 24 * 3600  # lifetime of an upload, and of the response to a completed grant
CHECKSUM: Final = "x-amz-checksum-sha256"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Terms that are signed in the URL of an upload to this server."""

    PURPOSE: ClassVar = "PUT"

    id: str  # random; part of the name of the upload, and stored with the image
    expires_at: int  # seconds since the epoch after which nothing can be uploaded or saved
    size: int  # exact size in bytes
    content_type: str | None = None  # content type that the file must have; None accepts any
    sha256: str | None = None  # hexadecimal SHA-256 that the file must have; None accepts any

    @property
    def digest(self) -> bytes | None:
        """`sha256` as bytes."""
        return bytes.fromhex(self.sha256) if self.sha256 else None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the client must send with the file.

        A CDN may serve the file before the file is checked. The headers therefore declare it as an
        attachment with a content type in which browsers run no code.
        """
        kind = self.content_type if self.content_type in INLINE else None
        headers = {
            "Content-Type": kind or DEFAULT,
            "Content-Disposition": "attachment",
            "If-None-Match": "*",
        }
        if self.digest is not None:
            headers[CHECKSUM] = base64.b64encode(self.digest).decode("ascii")
        return headers

    def signed(self, signer: UrlSigner, kind: "type[Upload] | None" = None) -> str:
        """Return `id?terms` as a signed text. The terms are the fields of `kind` (or own class)."""
        kind = kind or type(self)
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}
        grant_id, expires_at = values.pop("id"), values.pop("expires_at")
        query = urlencode({name: value for name, value in values.items() if value})
        return signer.sign_for(kind.PURPOSE, grant_id, expires_at, query)

    @classmethod
    def open(cls, signer: UrlSigner, name: bytes, query: bytes) -> Self:
        """Return the terms in a signed text (`name?query`), even if the grant has expired.

        Unknown terms are ignored, since newer versions may add some. Raises `GrantInvalid` if this
        server did not sign the text.
        """
        try:
            others, expires_at = signer.check_for(cls.PURPOSE, name, query)
        except Unauthenticated:
            raise GrantInvalid from None
        terms: dict[str, Any] = dict(parse_qsl(others.decode("ascii")))
        known = {field.name for field in dataclasses.fields(cls)} & terms.keys()
        terms = {term: _PARSED.get(term, str)(terms[term]) for term in known}
        return cls(id=name.decode("ascii"), expires_at=expires_at, **terms)


_PARSED: Final[dict[str, Any]] = {"size": int, "create_only": bool, "is_hash_enforced": bool}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UploadGrant(Upload):
    """All terms of one upload and its image. They are not secret: clients can read them."""

    PURPOSE: ClassVar = "COMPLETE"

    path: str
    create_only: bool = False  # True if the upload must not replace an image
    expires_after: str | None = None  # lifetime, as in `Expires-In`; None: it does not expire
    is_hash_enforced: bool = False  # True if uploads with another SHA-256 were refused
    subject: str | None = None  # subject of the token that asked for the grant, for events

    @property
    def condition(self) -> Condition:
        """Condition for saving the image."""
        return Condition(if_none_match=ANY) if self.create_only else UNCONDITIONAL

    @property
    def save_fields(self) -> dict[str, str]:
        """Request headers that give a saved image the lifetime in this grant."""
        return {} if self.expires_after is None else {"expires-in": self.expires_after}
