"""The media library's rows: every SQL statement."""
