"""Optional features, each in one folder."""
