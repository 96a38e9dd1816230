"""A folder as a long-term store: each bag a tar, and beside it what was proven of it."""
