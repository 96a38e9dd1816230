"""/deposits: what is handed in over HTTP by the node's own systems."""
