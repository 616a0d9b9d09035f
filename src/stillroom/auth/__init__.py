"""Authentication and permissions. Independent of HTTP, except for the `Bearer` scheme."""
