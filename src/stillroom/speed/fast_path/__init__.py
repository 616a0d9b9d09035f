"""Fast path: handlers of simple requests without a web framework (docs/adr/0009)."""
