"""Settings of archives."""

from pydantic import Field

from stillroom.store.settings import Settings


class ArchiveSettings(Settings):
    """Settings of archives."""

    max_archive_link_images: int = Field(default=10_000, ge=1, le=100_000)
    """Maximum number of images in a ZIP file that is downloaded with a signed URL, and in that of a
    run. More get 413. Up to four such ZIP files per process are sent at once."""


SECTION = ArchiveSettings
