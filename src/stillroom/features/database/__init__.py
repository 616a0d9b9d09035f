"""Database of the features: connection, transactions, tables, migrations, leases and scans."""
