"""`stillroom migrate`, run as a command, and stores for it."""

import asyncio
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import STILLROOM
from stillroom.paths import KeyPrefix
from stillroom.settings import AllSettings
from stillroom.store.choose import open_storage
from stillroom.store.disk.image import Attributes
from stillroom.store.values import ListQuery, StoredImage

MANY = 10_000


@dataclass
class Migrated:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def migrate(*words: str | Path) -> Migrated:
    ran = subprocess.run(
        [STILLROOM, "migrate", *words], capture_output=True, text=True, timeout=500, check=False
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Migrated(ran.returncode, ran.stdout, ran.stderr)


def settings_file(file: Path, **values: object) -> Path:
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return file


def write(data: Path, images: dict[str, bytes]) -> None:
    """What saves leave on a disk, in a tenth of the time."""
    for path, content in images.items():
        file = data / "compute" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            opened.write(content)
            opened.flush()
            now_ns = os.fstat(opened.fileno()).st_mtime_ns
            known = Attributes(now_ns, hashlib.sha256(content).digest(), "image/png")
            known.write(opened.fileno())


def facts(settings: AllSettings) -> dict[str, tuple[int, str, bytes | None, int]]:
    async def look() -> dict[str, tuple[int, str, bytes | None, int]]:
        storage = open_storage(settings.storage, settings.save_rules)
        pages = [
            await storage.entries(ListQuery(KeyPrefix(prefix), limit=MANY))
            for prefix in ("compute/", "media/")
        ]
        await storage.close()
        return {
            entry.key.text: (
                entry.size,
                entry.content_type,
                entry.sha256,
                entry.modified_ns // 1000,
            )
            for page in pages
            for entry in page.entries
            if isinstance(entry, StoredImage)
        }

    return asyncio.run(look())
