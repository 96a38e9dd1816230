"""Jobs: objects copied between roots, as somebody asked."""
