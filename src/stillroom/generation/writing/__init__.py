"""Writers of metadata into encoded images; the pixels stay untouched."""
