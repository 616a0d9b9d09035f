"""Authentication and permissions. Independent of HTTP, except that it parses `Bearer` headers."""
