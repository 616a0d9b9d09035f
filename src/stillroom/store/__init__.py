"""Storage backends, which save files under keys. Independent of users, HTTP and SQL."""
