"""Bytes under keys. Knows nothing of users, HTTP or SQL."""
