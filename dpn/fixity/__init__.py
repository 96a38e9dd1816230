"""Proving our copies again and again: which there are, when each is checked next, how well the promise is kept."""
