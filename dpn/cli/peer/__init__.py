"""`dpn peer`: the other nodes of the network, from their first token to their last."""
