"""Readers of embedded texts, one module per file format."""
