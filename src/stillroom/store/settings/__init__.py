"""Settings: read once from the environment or a file, and validated before anything starts.

`fields.py` contains the fields of the core, `sources.py` the sources of values, and `settings.py`
the values derived from several fields. A feature adds its fields in a subclass of `Settings`, and
`stillroom.settings` joins these classes.
"""

from stillroom.store.settings.fields import MIB, parsed_by
from stillroom.store.settings.settings import Settings

__all__ = ["MIB", "Settings", "parsed_by"]
