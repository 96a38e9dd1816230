"""A consortium of real processes on this machine."""
