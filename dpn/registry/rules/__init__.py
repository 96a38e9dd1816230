"""What may be done to a record, by whom and when: functions of values, used by server, sync and workers alike."""

from dpn.registry.rules.decisions import Accepted, Adoption, Caller, Decision, Foreign, Refused
from dpn.registry.rules.flags import CancelReason

__all__ = ["Accepted", "Adoption", "Caller", "CancelReason", "Decision", "Foreign", "Refused"]
