"""The restore pipeline: our copy handed to the node that asks for it."""
