"""Settings: read once from the environment or a file, and validated before anything starts.

`fields.py` has the fields, `sources.py` the sources of values, and `settings.py` values derived
from several fields. Nothing here opens or writes anything: `stillroom.assembly` does that.
"""

from stillroom.store.settings.settings import Settings

__all__ = ["Settings"]
