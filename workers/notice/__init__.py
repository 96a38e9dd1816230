"""The notice pipeline: a peer is told what we owe it."""
