"""What may be done to a record, by whom and when: functions of values, used by server, sync and workers alike."""

from dpn.registry.rules.decisions import Accepted, Caller, Decision, Refused
from dpn.registry.rules.transfers import CancelReason

__all__ = ["Accepted", "Caller", "CancelReason", "Decision", "Refused"]
