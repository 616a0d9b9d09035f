"""What the tests of R2's traps share."""

import dataclasses

import httpx
from aiohttp import web

from contract.images import RULES
from services.stub_r2 import StubR2
from services.stub_wire import KEY_ID
from services.trust import TRUST
from stillroom.storage.choose import open_storage
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ANY, Condition

MIB = 1024**2
CREATE = Condition(if_none_match=ANY)


def opened(stub: StubR2, *, key_id: str = KEY_ID, check_exists: bool = True) -> ImageStorage:
    """The storage in a stub, to be closed."""
    config = dataclasses.replace(stub.config, access_key_id=key_id, check_exists=check_exists)
    return open_storage(config, RULES)


async def fetched(url: str) -> httpx.Response:
    """What a browser gets, which knows that `*.localhost` is this machine."""
    parsed = httpx.URL(url)
    async with httpx.AsyncClient(verify=TRUST) as http:
        here = parsed.copy_with(host="127.0.0.1")
        return await http.get(here, headers={"host": parsed.netloc.decode()})


async def pass_on(stub: StubR2, request: web.Request) -> web.StreamResponse:
    """A request that goes well."""
    return await stub.carry_out(request)
