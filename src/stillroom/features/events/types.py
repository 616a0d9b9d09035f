"""Types of events. Settings use this module even in an installation without a database."""

from typing import Final

IMAGE_SAVED: Final = "image.saved"
IMAGE_DELETED: Final = "image.deleted"
RUN_PUBLISHED: Final = "run.published"
RUN_DELETED: Final = "run.deleted"
MEDIA_INGESTED: Final = "media.ingested"
MEDIA_CHANGED: Final = "media.changed"
MEDIA_DELETED: Final = "media.deleted"
DELETION_FAILED: Final = "deletion.failed"
RUN_TYPES: Final = (RUN_PUBLISHED, RUN_DELETED)  # the path of these events is a folder
# To read events of these types, a token needs the scope `media`.
LIBRARY_TYPES: Final = (MEDIA_INGESTED, MEDIA_CHANGED, MEDIA_DELETED, DELETION_FAILED)
TYPES: Final = (IMAGE_SAVED, IMAGE_DELETED, *RUN_TYPES, *LIBRARY_TYPES)
