"""Points at which a process kills itself with SIGKILL, and the children in which it does so.

A point is before and after each watched step. What is imported before, no child imports again.
"""

import contextlib
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

passed = 0
kill_at = 0


def begin(number: int) -> None:
    """Count from now on, and die at the n-th point; at none, if it is 0."""
    global passed, kill_at
    passed, kill_at = 0, number


def point() -> None:
    global passed  # noqa: PLW0603  (as above)
    passed += 1
    if passed == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, name: str) -> None:
    step = getattr(owner, name)

    @functools.wraps(step)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        point()
        found = await step(*args, **kwargs)
        point()
        return found

    @functools.wraps(step)
    def watched_plain(*args: Any, **kwargs: Any) -> Any:
        point()
        found = step(*args, **kwargs)
        point()
        return found

    setattr(owner, name, watched if inspect.iscoroutinefunction(step) else watched_plain)


def in_child(work: Callable[[str], str], line: str) -> str | None:
    """Return what `work` makes of a line in a child, or None if the child killed itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException), os.fdopen(writing, "w") as pipe:
            try:
                pipe.write(work(line))
                code = 0
            except BaseException:  # noqa: BLE001  (the parent sees that there is no result)
                sys.excepthook(*sys.exc_info())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
        return None
    assert status == 0, f"the child failed: {status}"
    return found
