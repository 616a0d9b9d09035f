"""Thumbnails of stored images, which are made in separate processes and cached."""
