"""Upload grants: signed texts that contain all terms of one upload, so that no row is needed."""

import base64
import dataclasses
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qsl, urlencode

from stillroom.errors import GrantInvalid, Unauthenticated
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.content_type import DEFAULT, INLINE
from stillroom.store.values import ANY, UNCONDITIONAL, Condition

KEPT_S: Final = 24 * 3600
"""Seconds for which an upload is kept, and for which a completed grant can be repeated."""

CHECKSUM: Final = "x-amz-checksum-sha256"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Terms that are signed in the URL of an upload to this server."""

    PURPOSE: ClassVar = "PUT"

    id: str  # random; part of the name of the upload, and stored with the image
    expires_at: int  # seconds since the epoch after which nothing can be uploaded or saved
    size: int  # exact size in bytes
    content_type: str | None = None  # content type that the file must have; None accepts any
    sha256: str | None = None  # hexadecimal; the file must have it. None if it is not known.

    @property
    def digest(self) -> bytes | None:
        """SHA-256 as bytes."""
        return bytes.fromhex(self.sha256) if self.sha256 else None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the client must send.

        A CDN may serve the upload before it is checked. So it is an attachment, and has a type in
        which browsers run no code.
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
        """Return the id and the terms, or those of `kind`, with a signature: the end of a URL."""
        kind = kind or type(self)
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}
        grant_id, expires_at = values.pop("id"), values.pop("expires_at")
        query = urlencode({name: value for name, value in values.items() if value})
        return signer.sign_for(kind.PURPOSE, grant_id, expires_at, query)

    @classmethod
    def open(cls, signer: UrlSigner, name: bytes, query: bytes) -> Self:
        """Return the terms in a signed text, whether or not it has expired.

        Terms of newer versions are ignored. Raises `GrantInvalid` if this server did not sign the
        text.
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
    """All terms of one upload and its image. The grant's holder can read them."""

    PURPOSE: ClassVar = "COMPLETE"

    path: str
    create_only: bool = False  # True if the upload must not replace an image
    expires_after: str | None = None  # lifetime, as in `Expires-In`; None: it does not expire
    is_hash_enforced: bool = False  # True if uploads with another SHA-256 were refused
    subject: str | None = None  # subject of the token that asked for the grant, for events

    @property
    def condition(self) -> Condition:
        """Condition under which the image is saved."""
        return Condition(if_none_match=ANY) if self.create_only else UNCONDITIONAL

    @property
    def save_fields(self) -> dict[str, str]:
        """Request headers of a save with the same lifetime."""
        return {} if self.expires_after is None else {"expires-in": self.expires_after}
