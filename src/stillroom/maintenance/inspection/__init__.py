"""Inspection of a store during maintenance: its interface, and one module per backend."""
