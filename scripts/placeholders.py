"""Name the placeholders that the owner of a hosted repository has to replace before a release.

The files for hosted services contain words such as @REPOSITORY@, since the project has no
address of its own yet. They are no error: the package does not depend on them.
"""

import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FILES: Final = (".github/**/*", "*.md", "docs/*.md", "mkdocs.yml", "pyproject.toml")
_PLACEHOLDER: Final = re.compile(r"@[A-Z][A-Z_]+@")


def placeholders() -> list[str]:
    """Return a line for each placeholder: its file, its line number and the word."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {found}"
        for pattern in FILES
        for file in sorted(ROOT.glob(pattern))
        if file.is_file()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for found in _PLACEHOLDER.findall(line)
    ]


if __name__ == "__main__":
    for line in placeholders():
        sys.stdout.write(f"REPLACE BEFORE PUBLISHING: {line}\n")
