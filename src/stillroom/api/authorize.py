"""Who is asking: the one place where an operation turns a request into rights."""

from collections.abc import Awaitable, Callable

from stillroom.auth.grants import Grant
from stillroom.http.fields import Fields

Authorize = Callable[[str | None], Grant | Awaitable[Grant]]
"""An `Authorization` field in, rights out, or `Unauthenticated`; plain or async."""


async def authenticate(authorize: Authorize, fields: Fields) -> Grant:
    """Authenticate a request by its header fields.

    Raises:
        Unauthenticated: for every reason the same, but for `TokenExpired`.
    """
    answer = authorize(fields.get("authorization"))
    return answer if isinstance(answer, Grant) else await answer
