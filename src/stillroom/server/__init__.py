"""The process: sockets, workers, limits and logs."""
