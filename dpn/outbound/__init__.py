"""What other nodes may fetch from us."""
