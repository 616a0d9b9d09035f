"""Readers of the texts that are embedded in files, one module per file format."""
