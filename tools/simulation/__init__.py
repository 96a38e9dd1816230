"""A node's own code under a scheduler: in one thread, in an order that a seed decides, on a clock of its own."""
