"""Server process: sockets, workers, limits and logs."""
