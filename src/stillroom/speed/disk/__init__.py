"""Disk storage with caches: names of large folders, metadata and pinned names of files."""
