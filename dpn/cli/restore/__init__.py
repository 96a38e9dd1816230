"""`dpn restore`: bags back from other nodes, or from our own store, into a folder."""
