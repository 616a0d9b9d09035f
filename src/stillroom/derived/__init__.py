"""Thumbnails of stored images: made in separate processes, stored in a cache of limited size."""
