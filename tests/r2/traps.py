"""What the tests of R2's traps share."""

import dataclasses

import httpx

from contract.images import RULES
from services.stub_r2 import StubR2
from services.stub_wire import KEY_ID
from services.trust import TRUST
from stillroom.store.choose import open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.values import ANY, Condition

MIB = 1024**2
CREATE = Condition(if_none_match=ANY)

pass_on = StubR2.carry_out
"""A request that goes well."""


def opened(stub: StubR2, *, key_id: str = KEY_ID) -> ImageStorage:
    config = dataclasses.replace(stub.config, access_key_id=key_id)
    return open_storage(config, RULES)


async def fetched(url: str) -> httpx.Response:
    """What a browser gets, which knows that `*.localhost` is this machine."""
    parsed = httpx.URL(url)
    async with httpx.AsyncClient(verify=TRUST) as http:
        here = parsed.copy_with(host="127.0.0.1")
        return await http.get(here, headers={"host": parsed.netloc.decode()})
