"""What the node hears whose transfer we give up."""

from __future__ import annotations

from dpn.registry.rules.flags import CancelReason
from workers.cancellations import TransferCancellation


def test_no_node_hears_where_our_files_lie() -> None:
    told = TransferCancellation(CancelReason.OTHER, "[Errno 5] I/O error: '/srv/dpn/staging/items/7/3/x.tar'")
    assert told.detail == "[Errno 5] I/O error: '…/x.tar'"
