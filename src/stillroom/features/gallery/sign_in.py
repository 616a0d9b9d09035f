"""Sign-in to the gallery: the page exchanges the code in a sign-in link for a token."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fastapi import Request, Response
from pydantic import Field

from stillroom.features.gallery.sign_in_codes import SignInCodes
from stillroom.store.api.forms import JsonForm, read_json, validate
from stillroom.store.api.responses import json_answer
from stillroom.store.http.fields import combined

_TOKEN_LIFE: Final = timedelta(hours=12)
_REMEMBERED_LIFE: Final = timedelta(days=30)  # as for tokens of `stillroom token`


class SignInRequest(JsonForm, max_bytes=1024, example='{"code": "…"}'):
    """Request body: code from a sign-in link. With `remember`, the token lives longer."""

    code: str = Field(max_length=128)
    remember: bool = False


@dataclass(frozen=True, slots=True)
class SignIn:
    """Sign-in operation. `mint(lifetime)` returns a token with all permissions."""

    codes: SignInCodes
    mint: Callable[[timedelta], str]

    async def sign_in(self, request: Request) -> Response:
        """Return a token for a valid code from a sign-in link. The code becomes invalid."""
        content = await read_json(request, combined(request.headers.raw), SignInRequest)
        body = validate(SignInRequest, content)
        await asyncio.to_thread(self.codes.use, body.code)
        token = self.mint(_REMEMBERED_LIFE if body.remember else _TOKEN_LIFE)
        return json_answer({"token": token}, headers={"cache-control": "no-store"})
