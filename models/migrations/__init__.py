"""Forward-only migrations of the database, run by `dpn db upgrade`."""
