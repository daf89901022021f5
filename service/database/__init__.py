"""PostgreSQL: engine and transactions, tables, migrations, notifications, and the embedded server."""
