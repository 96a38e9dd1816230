"""How a stage may end. A stage returns one of these; what follows from it is decided in `dpn.work.lifecycle`."""

from __future__ import annotations

from dataclasses import dataclass


class FollowUp:
    """What a stage has its pipeline do when the item ends, e.g. whom to tell what. Only the pipeline knows what it
    means; the core hands it to the pipeline's `Endings`."""


@dataclass(frozen=True)
class Done:
    """The stage did its work; the item moves on, or ends well if this was the last stage or `ends_item`."""

    note: str
    ends_item: bool = False


@dataclass(frozen=True)
class Wait:
    """Nothing is wrong, or nothing that the item could help: ask again in `seconds`. Not an attempt."""

    seconds: float
    reason: str
    needs_attention: bool = False
    patience_seconds: float = 0.0
    """How much longer than others such a wait may take before it calls for attention."""
    made_progress: bool = False
    """Whether something was done before: then it has not waited for what it waits for until now."""


@dataclass(frozen=True)
class Retry:
    """A transient failure: again after back-off, until the attempts are used up."""

    reason: str


@dataclass(frozen=True)
class Fail:
    """It will never work: the item fails."""

    reason: str
    follow_up: FollowUp | None = None
    needs_attention: bool = True
    """Not where another item sees to what is wrong."""
    given_up: bool = False
    """Whether nobody chose this end: attempts are used up, or an error came that no further attempt would cure."""


@dataclass(frozen=True)
class Stopped:
    """The work is no longer wanted: it was cancelled elsewhere, or nobody came for it. The item is cancelled."""

    reason: str
    follow_up: FollowUp | None = None


@dataclass(frozen=True)
class StartOver:
    """What an earlier stage left is gone: the item goes back to `stage`. Counts as an attempt of that stage."""

    stage: str
    reason: str


Outcome = Done | Wait | Retry | Fail | Stopped | StartOver
