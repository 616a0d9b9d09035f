"""Permissions that `authorize` functions of apps return (see `stillroom.store.auth.grants`)."""

from stillroom.store.auth.grants import SCOPES, Authorize, Grant, Scope, parse_scopes

__all__ = ["SCOPES", "Authorize", "Grant", "Scope", "parse_scopes"]
