"""Pure functions for HTTP semantics, independent of frameworks and sockets.

The ASGI path and the fast path use them to parse requests and to compute responses.
"""
