"""Database access of the media library. All of the library's SQL statements are in this package."""
