"""Work of many connections, a piece in each turn of the event loop."""

import asyncio

from stillroom.server.http11.bounds import Bounds
from stillroom.server.http11.connection import Service


def test_of_what_many_connections_have_to_do_one_piece_runs_in_a_turn() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        service = Service(loop, Bounds(), set(), set(), responder=None)  # type: ignore[arg-type]  # answers nothing
        ran: list[str] = []

        def again() -> None:
            ran.append("a")
            if ran.count("a") == 1:
                service.run_in_turn(again)

        for work in (again, lambda: ran.append("b"), lambda: ran.append("c")):
            service.run_in_turn(work)
        seen = []
        for _ in range(5):
            await asyncio.sleep(0)  # one turn of the event loop
            seen.append("".join(ran))
        assert seen == ["a", "ab", "abc", "abca", "abca"]

    asyncio.run(run())
