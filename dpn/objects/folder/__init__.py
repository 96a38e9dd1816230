"""A root that is a folder: no link below it is followed, and its files are whole or not there."""
