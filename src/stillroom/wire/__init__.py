"""Dataclasses of JSON responses, defined once for the server and the SDK."""
