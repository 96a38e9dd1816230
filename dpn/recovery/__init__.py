"""Getting bags back from other nodes: whom to ask, the request in our registry, the bag received and judged.

A request is a restore transfer of ours: we own it, the node that holds the bag accepts it and sets its link, we
fetch from there and say that we have it (see dpn.registry.rules.restores).
"""

from dpn.recovery.arrival import Judged, judge_received, receive
from dpn.recovery.destination import Busy, Destination, Occupied
from dpn.recovery.errors import NotOffered, RequestRefused
from dpn.recovery.holders import candidates
from dpn.recovery.requests import (
    count_open_requests,
    finish,
    give_up,
    items_asking,
    open_request,
    open_requests,
    our_requests,
    request_of,
    state,
)

__all__ = [
    "Busy",
    "Destination",
    "Judged",
    "NotOffered",
    "Occupied",
    "RequestRefused",
    "candidates",
    "count_open_requests",
    "finish",
    "give_up",
    "items_asking",
    "judge_received",
    "open_request",
    "open_requests",
    "our_requests",
    "receive",
    "request_of",
    "state",
]
