"""Readers of the metadata that is embedded in files, one module per file format."""
