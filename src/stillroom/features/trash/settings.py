"""Settings of the trash."""

from datetime import timedelta
from typing import Annotated

from stillroom.durations import parse_age
from stillroom.store.settings import Settings, parsed_by


class TrashSettings(Settings):
    """Settings of the trash."""

    trash: Annotated[timedelta | None, parsed_by(parse_age)] = None
    """Time for which a deleted image can be restored, such as `7d`. By default, `off`: deletions
    are final. See docs/trash.md."""
