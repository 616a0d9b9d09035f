"""Authentication and permissions, independent of HTTP except for the `Bearer` scheme."""
