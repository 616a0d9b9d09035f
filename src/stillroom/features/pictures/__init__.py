"""Thumbnails of stored images. Separate processes make them, and a cache keeps them."""
