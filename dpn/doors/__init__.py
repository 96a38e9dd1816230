"""How a request from outside becomes an item: doors to message brokers."""
