"""Upload grants: permissions for one upload each, which work without a token."""
