"""Lineage of images: from which images one was made, and which were made from it."""
