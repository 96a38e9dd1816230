"""Deposits: accepted, made known, placed at other nodes."""
