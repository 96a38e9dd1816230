"""Fetching a bag from another node by rsync, over ssh or from its daemon: resumable, bounded, without a shell.

`parse_link` decides whether a transfer's link may be followed at all; `fetch` follows it.
"""
