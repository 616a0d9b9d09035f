"""Pure functions for HTTP semantics, independent of frameworks and sockets.

Both the ASGI path and the fast path use them to parse requests and to compute status codes, headers
and ranges.
"""
