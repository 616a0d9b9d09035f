"""Who may do what. Knows nothing of HTTP but the form of a bearer token."""
