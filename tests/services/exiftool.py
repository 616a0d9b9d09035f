"""exiftool, the reader of metadata that most people have."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_by_exiftool(folder: Path, files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    exiftool = shutil.which("exiftool")
    assert exiftool, "exiftool is missing: make exiftool, or apt-get install libimage-exiftool-perl"
    for name, data in files.items():
        (folder / name).write_bytes(data)
    asked = ["-XMP-iptcExt:DigitalSourceType", "-ImageWidth", "-Warning", "-Error"]
    ran = subprocess.run(
        [exiftool, "-json", "-n", "-a", *asked, *files],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {found.pop("SourceFile"): found for found in json.loads(ran.stdout)}
