"""Fast path: handlers of simple requests without a framework (docs/adr/0009-the-fast-path.md)."""
