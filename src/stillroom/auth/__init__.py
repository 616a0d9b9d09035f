"""Package that contains the permissions for `authorize` functions of apps."""
