"""Database access of the media library: all SQL statements."""
