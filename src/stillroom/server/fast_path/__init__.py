"""Fast path: handlers of simple requests without a framework: ADR 0009."""
