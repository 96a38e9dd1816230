"""The append-only trail of what happened to what, when and by whom."""
