"""Thumbnails of stored images: decoded in processes of their own, kept in a bounded cache."""
