"""Putting facts into an image that is encoded already, without touching its pixels."""
