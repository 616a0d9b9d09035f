"""Stillroom: the image store of an image-generation compute server."""

__version__ = "0.2.0"
