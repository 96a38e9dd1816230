"""Fetching a bag from another node by rsync, over ssh or from its daemon: resumable, bounded, without a shell.

`parse_link` decides whether a transfer's link may be followed at all; `fetch` follows it.
"""

from dpn.transfer.errors import SourceMissing, SourceTooLarge
from dpn.transfer.link import RemoteFile, parse_link
from dpn.transfer.rsync import FetchResult, fetch

__all__ = ["FetchResult", "RemoteFile", "SourceMissing", "SourceTooLarge", "fetch", "parse_link"]
