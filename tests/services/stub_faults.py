"""What goes wrong in a stub, or on the way to it, for each of these in its `faults`."""

import asyncio

from aiohttp import web

from services.stub_r2 import Fault, StubR2
from services.stub_wire import error


def answers(status: int, code: str = "", **headers: str) -> Fault:
    async def fault(_: StubR2, request: web.Request) -> web.StreamResponse:
        await request.content.read()
        response = error(status, code) if code else web.Response(status=status)
        response.headers.update({name.replace("_", "-"): text for name, text in headers.items()})
        return response

    return fault


async def does_it_but_says_500(stub: StubR2, request: web.Request) -> web.StreamResponse:
    await stub.carry_out(request)
    return error(500, "InternalError")


def cut_off(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def resets_before_the_body(_: StubR2, request: web.Request) -> web.StreamResponse:
    return cut_off(request)


async def resets_after_the_body(_: StubR2, request: web.Request) -> web.StreamResponse:
    await request.content.read()
    return cut_off(request)


async def does_it_and_resets(stub: StubR2, request: web.Request) -> web.StreamResponse:
    await stub.carry_out(request)
    return cut_off(request)


async def hangs(_: StubR2, request: web.Request) -> web.StreamResponse:
    await request.content.read()
    await asyncio.sleep(3600)  # the fault itself
    raise AssertionError


async def does_it_and_hangs(stub: StubR2, request: web.Request) -> web.StreamResponse:
    await stub.carry_out(request)
    await asyncio.sleep(3600)  # the fault itself
    raise AssertionError


async def breaks_off_its_answer(_: StubR2, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b"<ListBucketResult>")
    cut_off(request)
    return response


def error_in_a_200(code: str) -> Fault:
    async def fault(_: StubR2, request: web.Request) -> web.StreamResponse:
        await request.content.read()
        return error(200, code)

    return fault
