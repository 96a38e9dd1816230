"""Whether a bag is valid: BagIt, and what a profile asks for."""
