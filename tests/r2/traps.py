"""What the tests of R2's traps share."""

from aiohttp import web

from contract.suite import RULES
from services.stub_r2 import BUCKET, KEY_ID, SECRET, StubR2
from stillroom.storage.choose import R2Config, open_storage
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ANY, Condition

MIB = 1024**2
CREATE = Condition(if_none_match=ANY)


def opened(stub: StubR2, *, key_id: str = KEY_ID, check_exists: bool = True) -> ImageStorage:
    """The storage in a stub, to be closed."""
    config = R2Config(stub.endpoint_url, key_id, SECRET, BUCKET, check_exists=check_exists)
    return open_storage(config, RULES)


async def pass_on(stub: StubR2, request: web.Request) -> web.StreamResponse:
    """A request that goes well."""
    return await stub.carry_out(request)
