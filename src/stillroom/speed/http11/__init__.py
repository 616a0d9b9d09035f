"""HTTP/1.1 server based on httptools: request heads, bodies, ASGI, timeouts and error responses."""
