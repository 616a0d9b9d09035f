"""Settings of the core, of `speed` and of all features, read together."""

import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stillroom.assembly import FEATURES
from stillroom.speed.settings import SpeedSettings
from stillroom.store.settings import Settings


def _sections() -> Iterator[type[Settings]]:
    yield SpeedSettings
    for line in reversed(FEATURES):
        name = f"stillroom.features.{line.name}.settings"
        if importlib.util.find_spec(name) is not None:
            yield importlib.import_module(name).SECTION


if TYPE_CHECKING:
    AllSettings = Settings
else:
    AllSettings = type(
        "AllSettings",
        (*_sections(),),
        {"__doc__": "Settings of a process.", "__module__": __name__},
    )
