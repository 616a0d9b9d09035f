"""Disk storage with caches for the names in large folders and for the metadata of files."""
