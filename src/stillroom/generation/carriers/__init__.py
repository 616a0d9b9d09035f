"""Modules that read embedded metadata from files: one per format of files or metadata."""
