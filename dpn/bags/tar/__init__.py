"""Tars read without unpacking them, and tar headers written."""
