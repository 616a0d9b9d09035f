"""Disk backend: images as ordinary files, which survive power cuts."""
