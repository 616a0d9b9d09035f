"""Stillroom: an image store for servers that generate images."""

__version__ = "0.3.0"
