"""Database migrations, one file per schema change."""
