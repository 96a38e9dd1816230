"""What is persisted: rows (SQLAlchemy), manifests (pydantic), migrations (Alembic). Imports nothing of ours."""
