"""The HTTP server: sockets, worker processes, limits and logs."""
