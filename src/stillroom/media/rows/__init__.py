"""Rows of the media library: all SQL statements."""
