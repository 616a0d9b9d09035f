"""Receivers of webhooks in the documentation: they accept what a server sends, and nothing else."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from standardwebhooks import Webhook

from running import IMAGES, Server
from waiting import until

WEBHOOK_SECRET: Final = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
_FORGED_SECRET: Final = f"whsec_{base64.b64encode(bytes(range(40, 72))).decode()}"
_PATH: Final = "generations/7/told.png"


def webhooks_for(folder: Path, url: str) -> Path:
    """Write the file of the documentation for one receiver, in which `url` is the endpoint's."""
    secret, file = folder / "backend.secret", folder / "webhooks.toml"
    secret.touch(0o600)
    secret.write_text(WEBHOOK_SECRET)
    file.write_text(
        f'[[endpoint]]\nname = "backend"\nurl = "{url}"\nsecret_file = "backend.secret"\n'
    )
    return file


def saves_are_told(server: Server, url: str, log: Path) -> None:
    """Save an image: the receiver prints it, and responds 401 to requests of others."""
    with server.client() as client:
        client.post(f"{IMAGES}/{_PATH}", files={"file": b"bytes"}).raise_for_status()
    until(lambda: _PATH in log.read_text(), said=log.read_text)
    assert "image.saved" in log.read_text()

    body = b'{"id": "evt_1", "type": "image.saved", "data": {"path": "forged.png"}}'
    assert httpx.post(url, content=body).status_code == 401
    assert httpx.post(url, content=body, headers=_signed(_FORGED_SECRET, body)).status_code == 401
    headers = _signed(WEBHOOK_SECRET, body)
    assert httpx.post(url, content=body + b" ", headers=headers).status_code == 401
    assert "forged.png" not in log.read_text()
    assert httpx.post(url, content=body, headers=headers).status_code == 204


def _signed(secret: str, body: bytes) -> dict[str, str]:
    moment = datetime.now(UTC)
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": f"{int(moment.timestamp())}",
        "webhook-signature": Webhook(secret).sign("evt_1", moment, body.decode()),
    }
