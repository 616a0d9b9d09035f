"""HTTP rules as pure functions, used by the ASGI application and by the server's fast path."""
