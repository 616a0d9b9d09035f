"""HTTP in, HTTP out: the FastAPI side of the operations."""
