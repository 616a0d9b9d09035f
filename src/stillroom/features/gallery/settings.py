"""Settings of the gallery."""

from pathlib import Path

from stillroom.store.settings import Settings


class GallerySettings(Settings):
    """Settings of the gallery."""

    gallery: bool = True
    """Serve the gallery at `/`: docs/gallery.md. The gallery shows images only with a token."""

    @property
    def sign_in_folder(self) -> Path:
        """Folder with the codes of sign-in links."""
        return self.data_dir / ".stillroom" / "sign-in"
