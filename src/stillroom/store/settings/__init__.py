"""Settings of the core, which are read from the environment or from a file at the start.

A feature adds its settings in a subclass of `Settings`; `stillroom.settings` joins these classes.
"""

from stillroom.store.settings.fields import MIB, parsed_by
from stillroom.store.settings.settings import Settings

__all__ = ["MIB", "Settings", "parsed_by"]
