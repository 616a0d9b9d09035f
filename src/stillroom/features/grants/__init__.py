"""Upload grants: signed permissions, each for one upload without a token."""
