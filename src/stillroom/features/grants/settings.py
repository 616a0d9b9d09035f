"""Settings of upload grants."""

from typing import Final

from pydantic import Field

from stillroom.store.settings import MIB, Settings

MAX_COPIED_BYTES: Final = 5 * 1024 * MIB
"""Largest object that S3 stores in one PUT and copies in one request:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""


class GrantsSettings(Settings):
    """Settings of upload grants."""

    max_grant_bytes: int = Field(default=1024 * MIB, ge=1, le=MAX_COPIED_BYTES)
    """Maximum size in bytes of an upload with a grant: docs/uploads.md. Larger sizes get 413. A
    proxy in front of the server must allow the same size."""
