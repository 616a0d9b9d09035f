"""What a token allows: scopes, and a folder that they are confined to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Self

from stillroom.errors import Forbidden, InvalidPath
from stillroom.paths import ImagePath, ImagePrefix

Scope = Literal["storage:read", "storage:write", "storage:delete", "media"]

SCOPES: Final[tuple[Scope, ...]] = ("storage:read", "storage:write", "storage:delete", "media")


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of one caller.

    Attributes:
        scopes: What may be done.
        folder: Where, as a folder with its slash; empty means everywhere.
    """

    scopes: frozenset[Scope]
    folder: str = ""

    @classmethod
    def everything(cls) -> Self:
        """All scopes, everywhere."""
        return cls(frozenset(SCOPES))

    @classmethod
    def confined_to(cls, scopes: frozenset[Scope], folder: str) -> Self:
        """Some scopes, in one folder: `a` and `a/` are the same one.

        Raises:
            InvalidPath: no image can lie in such a folder.
        """
        return cls(scopes, ImagePath.parse(folder.removesuffix("/")).text + "/")

    def require(self, scope: Scope, path: ImagePath) -> None:
        """Return if `scope` is granted for `path`.

        A folder covers what lies in it: `a/` covers neither `ab` nor the image `a`.

        Raises:
            Forbidden: the message says what is missing; the token is the caller's own.
        """
        self.require_scope(scope)
        if not self.covers(path):
            raise Forbidden(f"the token is confined to {self.folder!r}")

    def require_folder(self, scope: Scope, folder: ImagePath) -> None:
        """Return if `scope` is granted for all that lies in a folder.

        Raises:
            Forbidden: it is not; confined to `a/`, a caller may have the folder `a`.
        """
        self.require_scope(scope)
        if not f"{folder.text}/".startswith(self.folder):
            raise Forbidden(f"the token is confined to {self.folder!r}")

    def covers(self, path: ImagePath) -> bool:
        """Whether a path lies in the folder that the caller is confined to."""
        return not self.folder or path.text.startswith(self.folder)

    def narrow(self, scope: Scope, prefix: ImagePrefix) -> ImagePrefix:
        """The part of a listing that the caller may see.

        Raises:
            Forbidden: none of it.
        """
        self.require_scope(scope)
        if prefix.text.startswith(self.folder):
            return prefix
        if self.folder.startswith(prefix.text):
            return ImagePrefix(self.folder)
        raise Forbidden(f"the token is confined to {self.folder!r}")

    def require_everywhere(self, scope: Scope) -> None:
        """Return if `scope` is granted and confined to no folder.

        Raises:
            Forbidden: the message says what is missing.
        """
        self.require_scope(scope)
        if self.folder:
            raise Forbidden(f"the token is confined to {self.folder!r}")

    def require_scope(self, scope: Scope) -> None:
        """Return if `scope` is granted, wherever.

        Raises:
            Forbidden: it is not.
        """
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}")


def parse_scopes(text: str) -> frozenset[Scope]:
    """The known scopes of a space-separated list; unknown ones grant nothing here."""
    return frozenset(scope for scope in SCOPES if scope in text.split())


def is_folder(text: str) -> bool:
    """Whether a token can be confined to this."""
    try:
        Grant.confined_to(frozenset(), text)
    except InvalidPath:
        return False
    return True


Authorize = Callable[[str | None], Grant | Awaitable[Grant]]
"""An `Authorization` field in, rights out, or `Unauthenticated`; plain or async."""
