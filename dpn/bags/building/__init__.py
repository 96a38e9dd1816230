"""A DPN bag built from files, as one tar, in one pass."""
