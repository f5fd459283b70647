"""Store: the database, behind SQLAlchemy."""
