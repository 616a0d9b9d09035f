"""Permissions for `authorize` functions of apps, which `stillroom.store.auth.grants` defines."""

from stillroom.store.auth.grants import Authorize, Grant, Scope

__all__ = ["Authorize", "Grant", "Scope"]
