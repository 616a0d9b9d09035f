"""HTTP operations, served with FastAPI."""
