"""Settings of the core, of `speed` and of all features, read together."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Final

from stillroom.assembly import FEATURES
from stillroom.speed.settings import SpeedSettings
from stillroom.store.settings import Settings

_SECTIONS: Final[list[type[Settings]]] = [
    getattr(importlib.import_module(name), f"{line.name.capitalize()}Settings")
    for line in reversed(FEATURES)
    if importlib.util.find_spec(name := f"stillroom.features.{line.name}.settings") is not None
]

if TYPE_CHECKING:
    AllSettings = Settings
else:
    AllSettings = type(
        "AllSettings",
        (SpeedSettings, *_SECTIONS),
        {"__doc__": "Settings of a process.", "__module__": __name__},
    )
