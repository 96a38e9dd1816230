"""`dpn store`: our long-term store as a whole."""
