"""Looking after stores: verify, migrate, orphans."""
