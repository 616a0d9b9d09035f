"""Notification of systemd when the server is ready and when it stops (sd_notify)."""

import contextlib
import os
import socket
from typing import Final, Literal

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"

_TIMEOUT_S: Final = 1.0


def notify(state: Literal["READY=1", "STOPPING=1"]) -> None:
    """Send a state to the socket in the environment variable NOTIFY_SOCKET, if that is set.

    Errors are ignored.

    Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.settimeout(_TIMEOUT_S)
        sender.connect(address)
        sender.send(state.encode())
