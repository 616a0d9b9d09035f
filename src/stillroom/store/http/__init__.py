"""Pure functions for the rules of HTTP. They depend on no web framework and no socket.

Both the ASGI application and the fast path (which bypasses ASGI for reads and saves of images) use
them to parse requests and to compute responses.
"""
