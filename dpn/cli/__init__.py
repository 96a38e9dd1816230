"""The `dpn` command: where everything is put together."""
