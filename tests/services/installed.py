"""This checkout at `/opt/stillroom` in a mount namespace, as an installation would be.

The interpreter and its libraries lie where other users may not look (`/root`, `/tmp`).
"""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).parents[2] / "src"

INSTALL: Final = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/etc /run/work /run/opt /run/optwork
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work /etc
mount -t overlay overlay -o lowerdir=/opt,upperdir=/run/opt,workdir=/run/optwork /opt
mkdir -p /opt/python /opt/libraries /opt/source /opt/stillroom/bin
mount --bind "$PREFIX" /opt/python
mount --bind "$LIBRARIES" /opt/libraries
mount --bind "$SOURCE" /opt/source
printf '%s\\n' '#!/bin/sh' \
  'export PYTHONPATH=/opt/libraries:/opt/source LD_LIBRARY_PATH=/opt/python/lib' \
  'exec /opt/python/bin/python3 -c "from stillroom.cli.main import main; main()" "$@"' \
  > /opt/stillroom/bin/stillroom
chmod 755 /opt/stillroom/bin/stillroom
"""
"""The beginning of a script for `unshare --mount sh -c`, with these variables."""


def variables() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PREFIX": sys.base_prefix,
        "LIBRARIES": sysconfig.get_path("purelib"),
        "SOURCE": str(_SOURCE),
    }
