"""Program that imports what a server imports, and forks a server for each line of its input.

The line has the command, the log file, the variables and the working directory of the server. The
program prints the process id of the server, whose parent is the process that started this program.
"""

import gc
import importlib
import json
import os
import sys


def _import_modules() -> None:
    gc.disable()  # as `stillroom serve` does
    from stillroom.assembly import FEATURES

    for name in ("cli.main", "server.serve", "settings", "features.database.migrations"):
        importlib.import_module(f"stillroom.{name}")
    for line in FEATURES:
        importlib.import_module(f"stillroom.features.{line.name}.feature")
    importlib.import_module("sqlalchemy.dialects.sqlite.aiosqlite")


def _serve(command: list[str], log: str, environment: dict[str, str], folder: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(out)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    sys.modules["__main__"].__file__ = command[0]  # which each of several workers imports
    from stillroom.cli.main import main

    main()


def _fork_and_print(order: list[object]) -> None:
    """Fork a process that forks the server and ends, so that the server gets another parent."""
    reading, writing = os.pipe()
    child = os.fork()
    server = os.fork() if child == 0 else 0
    if server:
        os.write(writing, f"{server}\n".encode())
        os._exit(0)
    os.close(writing)
    if child:
        os.waitpid(child, 0)  # the server has its new parent only then
        os.write(1, os.read(reading, 100) or b"0\n")
    os.close(reading)
    if not child:
        _serve(*order)  # type: ignore[arg-type]  # as written by services.forking


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(sys.executable)  # as for the command, not this folder
    _import_modules()
    while request := sys.stdin.readline():
        _fork_and_print(json.loads(request))
