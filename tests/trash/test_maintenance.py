"""`stillroom verify` and `stillroom migrate` know the trash."""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from running import STILLROOM
from services.seaweedfs import BUCKET
from trash.conftest import PNG, Site


async def stillroom(site: Site, *words: str | Path) -> tuple[int, dict[str, Any], str]:
    """Run a command beside the application; return its status, its JSON and what it says."""
    ours = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("STILLROOM_", "R2_"))
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [STILLROOM, *words, "--json"],
        env=ours | site.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def damage(site: Site) -> str:
    """Change the bytes of the file in the trash, as a failing disk does. Return its key."""
    (place,) = site.places()
    changed = PNG[:-1] + b"!"
    if site.operator is not None:
        was = site.operator.send("HEAD", f"/{BUCKET}/trash/{place}").headers
        kept = {name: value for name, value in was.items() if name.startswith("x-amz-meta-")}
        site.operator.put(f"trash/{place}", changed, headers=kept)
        return f"trash/{place}"
    file = site.data / ".stillroom/trash" / place
    status = file.stat()
    file.write_bytes(changed)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    return f".stillroom/trash/{place}"


async def test_a_verification_includes_the_trash(site: Site) -> None:
    await site.save("kept.png")
    await site.save("deleted.png")
    await site.discard("deleted.png")

    status, found, said = await stillroom(site, "verify")
    assert (status, found["images"], found["problems"]) == (0, 2, 0), said
    assert (await stillroom(site, "verify", "--prefix", "kept"))[1]["images"] == 1

    key = damage(site)
    status, found, said = await stillroom(site, "verify")
    assert status == 1, said
    assert [(one["kind"], one["name"]) for one in found["findings"]] == [("damaged", key)]


async def test_a_migration_says_that_it_does_not_copy_the_trash(site: Site, tmp_path: Path) -> None:
    await site.save("kept.png")
    await site.save("deleted.png")
    trash_id = await site.discard("deleted.png")
    target = tmp_path / "target.env"
    (tmp_path / "target").mkdir()
    target.write_text(f"STILLROOM_DATA_DIR={tmp_path / 'target'}\nSTILLROOM_MIN_FREE_BYTES=0\n")

    status, found, said = await stillroom(site, "migrate", "--to", target)
    assert (status, found["images"], found["not_copied_from_trash"]) == (0, 1, 1), said

    assert (await site.restore(trash_id)).status_code == 200
    status, found, said = await stillroom(site, "migrate", "--to", target)
    assert (status, found["images"], found["not_copied_from_trash"]) == (0, 2, 0), said
