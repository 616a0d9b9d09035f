"""HTTP rules as pure functions, which the ASGI path and the fast path share."""
