"""Rebuild of the search index, so that phrases also match the names of models and LoRAs."""

from typing import Final

revision: Final = "0009"
down_revision: Final = "0008"


def upgrade() -> None:
    """Do nothing: the next migration empties the search index, which is then rebuilt."""
