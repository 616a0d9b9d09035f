"""HTTP/1.1 server on httptools: request heads, bodies, ASGI, timeouts and error responses."""
