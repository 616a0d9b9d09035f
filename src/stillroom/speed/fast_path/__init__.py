"""Fast path: handlers that respond to simple requests without a web framework (ADR 0009)."""
