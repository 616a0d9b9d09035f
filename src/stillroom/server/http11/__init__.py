"""HTTP/1.1 server connection on httptools: request heads, bodies, ASGI, time-outs, refusals."""
