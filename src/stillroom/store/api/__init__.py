"""HTTP operations of the core."""
