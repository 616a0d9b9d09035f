"""Storage of bytes under keys. Independent of users, HTTP and SQL."""
