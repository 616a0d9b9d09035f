"""Thumbnails of stored images: decoded in separate processes, stored in a bounded cache."""
