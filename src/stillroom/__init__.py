"""Stillroom: an image store for servers that generate images."""

__version__ = "0.2.0"
