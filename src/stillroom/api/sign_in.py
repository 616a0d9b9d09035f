"""Signing in to the gallery by a link: the POST that exchanges the link's code for a token."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from stillroom.api.forms import JsonForm, in_form, read_json
from stillroom.api.operation import OperationRoute
from stillroom.api.responses import json_answer
from stillroom.auth.sign_in_codes import SignInCodes
from stillroom.http.fields import combined

_TOKEN_LIFE: Final = timedelta(hours=12)
_REMEMBERED_LIFE: Final = timedelta(days=30)
"""As `stillroom token`'s."""


class LinkUsed(JsonForm):
    """A link's code, and whether the device will be remembered."""

    MAX_BYTES: ClassVar = 1024
    EXAMPLE: ClassVar = '{"code": "…"}'

    code: str = Field(max_length=128)
    remember: bool = False


@dataclass(frozen=True, slots=True)
class SignIn:
    """Tokens for links.

    Attributes:
        codes: Those that were made and not used.
        mint: Makes a token that may do everything for so long.
    """

    codes: SignInCodes
    mint: Callable[[timedelta], str]

    async def sign_in(self, request: Request) -> Response:
        """Use a link's code up, and answer a token."""
        given = await read_json(request, combined(request.headers.raw), LinkUsed)
        used = in_form(LinkUsed, given)
        await asyncio.to_thread(self.codes.take, used.code)
        token = self.mint(_REMEMBERED_LIFE if used.remember else _TOKEN_LIFE)
        answer = json_answer({"token": token})
        answer.headers["cache-control"] = "no-store"
        return answer


def sign_in_router(signing_in: SignIn) -> APIRouter:
    """`POST /sign-in`: for the gallery, outside of the documented API."""
    router = APIRouter(include_in_schema=False, route_class=OperationRoute)
    router.add_api_route("/sign-in", signing_in.sign_in, methods=["POST"])
    return router
