"""Reading of a whole file that is in memory."""

from stillroom.formats.file_parts import FileParts
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation.reading import UNKNOWN, Found, find


def find_in(data: bytes) -> Found:
    """Find the generation parameters and the AI mark in a file, or in its first bytes."""
    try:
        return find(FileParts.whole(data))
    except TooMuchWork:
        return UNKNOWN
