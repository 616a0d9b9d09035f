"""The promises of the media library, one test each, in a class for each subject.

On the pairs of `conftest.py`: on two of them, and on all four where a test is marked `pairs`.
"""

from media.changing import ChangeContract
from media.confining import ConfinedIngestContract
from media.ingesting import IngestContract
from media.racing import RacingIngestContract


class MediaLibraryContract(
    IngestContract, ConfinedIngestContract, RacingIngestContract, ChangeContract
):
    """Subclass this, in a file that pytest collects."""
