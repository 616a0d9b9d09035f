"""Permissions of tokens: scopes, which can be limited to one folder."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Self

from stillroom.errors import Forbidden
from stillroom.paths import ImagePath, ImagePrefix

Scope = Literal["storage:read", "storage:write", "storage:delete", "media"]

MAX_SUBJECT: Final = 255  # characters in the subject of a token
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
SCOPES: Final[tuple[Scope, ...]] = ("storage:read", "storage:write", "storage:delete", "media")


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions of a client, from its token or a signed URL."""

    scopes: frozenset[Scope]  # permitted kinds of operations
    folder: str = ""  # folder to which the scopes are limited, with a slash at the end; empty: all
    subject: str | None = None  # subject of the token (`sub`), for events; None: missing or invalid

    def __post_init__(self) -> None:
        if self.subject is not None:
            object.__setattr__(self, "subject", parse_subject(self.subject))

    @classmethod
    def everything(cls) -> Self:
        """Return all permissions for all folders."""
        return cls(frozenset(SCOPES))

    @classmethod
    def confined_to(cls, scopes: frozenset[Scope], folder: str) -> Self:
        """Return the permissions `scopes` for one folder (`a` or `a/`). May raise `InvalidPath`."""
        return cls(scopes, ImagePath.parse(folder.removesuffix("/")).text + "/")

    def require(self, scope: Scope, path: ImagePath) -> None:
        """Raise `Forbidden` unless the client has the permission `scope` for an image path."""
        self.require_scope(scope)
        if not self.covers(path):
            raise Forbidden(f"the token is limited to {self.folder!r}")

    def require_folder(self, scope: Scope, folder: ImagePath) -> None:
        """Raise `Forbidden` unless the client has the permission `scope` for a whole folder."""
        self.require_scope(scope)
        if not f"{folder.text}/".startswith(self.folder):
            raise Forbidden(f"the token is limited to {self.folder!r}")

    def covers(self, path: ImagePath) -> bool:
        """Return whether an image path is in the folder to which the scopes are limited."""
        return path.text.startswith(self.folder)

    def narrow(self, scope: Scope, prefix: ImagePrefix) -> ImagePrefix:
        """Return the part of `prefix` where the client has `scope`, or raise `Forbidden`."""
        self.require_scope(scope)
        if prefix.text.startswith(self.folder):
            return prefix
        if self.folder.startswith(prefix.text):
            return ImagePrefix(self.folder)
        raise Forbidden(f"the token is limited to {self.folder!r}")

    def require_everywhere(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the client has the permission `scope` for all folders."""
        self.require_scope(scope)
        if self.folder:
            raise Forbidden(f"the token is limited to {self.folder!r}")

    def require_scope(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the client has the permission `scope` for some folder."""
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}", scope=scope)


def parse_subject(claim: object) -> str | None:
    """Return the subject of a token, or None if it is missing, too long or not printable."""
    if not isinstance(claim, str) or not 0 < len(claim) <= MAX_SUBJECT:
        return None
    return claim if _CONTROLS.search(claim) is None else None


def parse_scopes(text: str) -> frozenset[Scope]:
    """Parse a space-separated list of scopes. Unknown scopes are ignored."""
    return frozenset(scope for scope in SCOPES if scope in text.split())


Authorize = Callable[[str | None], Grant | Awaitable[Grant]]
"""Function that returns the permissions for an `Authorization` header (None: no header), or an
awaitable if it must wait. It raises `Unauthenticated` if the header is missing or invalid."""
