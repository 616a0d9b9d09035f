"""Values that cross HTTP, defined once for the server and the SDK."""
