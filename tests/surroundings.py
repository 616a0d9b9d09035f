"""Make the tests independent of the shell that starts them.

`conftest.py` calls `normalise` first, in each process of pytest. What cannot be set here (the user,
the paths, the time zone, the locale) is varied by `make test-surroundings`.
"""

import os
import resource
import signal
from typing import Final

_OF_OTHERS: Final = ("STILLROOM_", "R2_", "CLOUDFLARE_", "AWS_", "PG", "PYTEST_ADDOPTS")
"""Beginnings of the names of variables that would change what a server or a client does."""

_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""`subprocess` restores these two for a child (https://docs.python.org/3/library/subprocess.html)."""

_LOOPBACK: Final = "127.0.0.1,::1,localhost"
_MOST_FILES: Final = 65_536


def normalise() -> None:
    """Set signals, the file mode mask, limits and variables to what the tests expect.

    A signal that is ignored stays ignored in every child, as SIGINT is in a background job of a
    shell and SIGHUP under `nohup`. A handler is not inherited: with one that does nothing, this
    process ignores the signal as before, and its children start with the default.
    """
    for number in signal.valid_signals():
        if number not in _IGNORED_BY_PYTHON and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    for name in list(os.environ):
        if name.startswith(_OF_OTHERS):
            del os.environ[name]
    for name in ("no_proxy", "NO_PROXY"):  # requests to the outside may need the proxy, as pip's do
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), _LOOPBACK)))


def _ignore(_number: int, _frame: object) -> None:
    pass


def inherited(*others: str) -> dict[str, str]:
    """Return the environment without Stillroom's variables, and those with these beginnings."""
    left_out = ("STILLROOM_", *others)
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
