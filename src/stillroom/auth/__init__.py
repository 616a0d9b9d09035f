"""Former address of the permissions that apps with their own `authorize` function return."""
