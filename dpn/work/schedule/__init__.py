"""How due items reach workers: announced, found again if that was lost, in whose turn, and which workers live."""
