"""Permissions for `authorize` functions of apps, which `stillroom.store.auth.grants` defines."""

from stillroom.store.auth.grants import SCOPES, Authorize, Grant, Scope, parse_scopes

__all__ = ["SCOPES", "Authorize", "Grant", "Scope", "parse_scopes"]
