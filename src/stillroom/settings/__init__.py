"""Settings: read once from the environment or a file, and checked before anything starts.

`fields.py` says what can be set, `sources.py` where values come from, and `settings.py` what they
mean together. Nothing here opens or writes anything: that is `stillroom.assembly`.
"""

from stillroom.settings.settings import Settings

__all__ = ["Settings"]
