"""The rules of HTTP as pure functions, for every road that answers a request.

Nothing here knows a framework or a socket: facts go in, statuses, headers and
slices come out.
"""
