"""Retention: rules that say which compute results come to their end, and when."""
