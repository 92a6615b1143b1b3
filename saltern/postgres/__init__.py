"""PostgreSQL: its files, its sizes, its roles and databases, and the SQL of our own sessions."""
