"""Settings of archives."""

from pydantic import Field

from stillroom.store.settings import Settings


class ArchiveSettings(Settings):
    """Settings of archives."""

    max_archive_link_images: int = Field(default=10_000, ge=1, le=100_000)
    """Maximum number of images in a ZIP file that contains a run, or that is downloaded with a
    signed URL. More get 413. With signed URLs, each process sends up to four ZIP files at once."""
