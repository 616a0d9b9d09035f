"""Files in ComfyUI's own folders: copies that its page shows, and what could not be saved."""

import itertools
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import folder_paths

from .names import run_folder

_PREVIEWS: Final = "stillroom"


def keep(prefix: str, files: Mapping[str, bytes]) -> Path:
    """Write images to a new folder below ComfyUI's output folder.

    Args:
        prefix: A path that was checked; the folder is this one with a number.
        files: By the names that they would have had.
    """
    output = Path(folder_paths.get_output_directory())
    (output / prefix).parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = output / run_folder(prefix, number)
        try:
            folder.mkdir()
            break
        except FileExistsError:
            continue
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def preview(suffix: str, content: bytes) -> dict[str, str]:
    """Write a copy to ComfyUI's temporary folder, and what its page needs to show that."""
    folder = Path(folder_paths.get_temp_directory()) / _PREVIEWS
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{uuid.uuid4().hex}{suffix}"
    (folder / name).write_bytes(content)
    return {"filename": name, "subfolder": _PREVIEWS, "type": "temp"}
