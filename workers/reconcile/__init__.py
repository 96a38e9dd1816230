"""Open items and what their transfers have come to, brought together."""
