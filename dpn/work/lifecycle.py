"""What follows from a stage's outcome: pure, so that every way an item can go is a table that tests can walk.

Promises: waiting never uses up attempts, nor does a worker that dies; attempts that are used up end the item as
given up; a note always says why; `waiting_since` does not move until the stage is done, so a stuck item cannot
look fresh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from dpn.work.outcomes import Done, Fail, FollowUp, Outcome, Retry, StartOver, Stopped, Wait
from dpn.work.pipeline import Pipelines
from models.work import Status


@dataclass(frozen=True)
class Policy:
    """How often and how long to try. Seconds throughout."""

    attempts: int
    backoff_first_seconds: float
    backoff_max_seconds: float
    attention_after_seconds: float


@dataclass(frozen=True)
class Position:
    """Where an item stands when its stage ends. `attempts` includes the run that just ended, none that died."""

    task: str
    stage: str
    attempts: int
    waiting_since: datetime | None
    restarts: int = 0
    """How often the item has started over."""
    deaths: int = 0
    """How many runs, since the last one that said how it went, ended with their worker or its lease."""


@dataclass(frozen=True)
class Change:
    """What becomes of the item; applied in one transaction with its manifest, event and dispatch intent."""

    stage: str
    status: Status
    attempts: int
    delay_seconds: float
    """From now, by the database's clock, until the item is due again."""
    waiting_since: datetime | None
    note: str
    needs_attention: bool
    dispatch: bool
    """Whether a message shall announce the item now; what is due later is found by the sweep."""
    leaves_volume: bool = False
    """Whether the item no longer needs what lies on its staging volume."""
    follow_up: FollowUp | None = None
    """What the pipeline shall do about this end, as the stage said."""
    given_up: bool = False
    """Whether nobody chose this end."""


def decide(
    position: Position, outcome: Outcome, *, pipelines: Pipelines, policy: Policy, now: datetime, jitter: float
) -> Change:
    """The change that `outcome` brings to an item at `position`. `jitter` is in [0, 1)."""
    match outcome:
        case Done(note=note, ends_item=ends):
            return _advance(position, note, ends, pipelines)
        case Wait(seconds=seconds, reason=reason, needs_attention=attention, patience_seconds=patience):
            if outcome.made_progress:
                position = replace(position, waiting_since=None)
            return Change(
                stage=position.stage,
                status=Status.PENDING,
                attempts=max(0, position.attempts - 1),
                delay_seconds=seconds,
                waiting_since=position.waiting_since or now,
                note=reason,
                needs_attention=attention or _is_overdue(position, policy, now, patience),
                dispatch=False,
            )
        case Retry(reason=reason):
            return _retry(position, position.stage, reason, policy, now, jitter)
        case StartOver(reason=reason) if position.restarts >= policy.attempts:
            return _give_up(position, f"started over {position.restarts} times, the last because {reason}")
        case StartOver(stage=stage, reason=reason):
            leaves_volume = not pipelines.spec(position.task, stage).staged
            return _retry(position, stage, reason, policy, now, jitter, leaves_volume=leaves_volume)
        case Fail(reason=reason, follow_up=follow_up, needs_attention=attention, given_up=given_up):
            return _end(position, Status.FAILED, reason, attention, follow_up, given_up)
        case Stopped(reason=reason, follow_up=follow_up):
            return _end(position, Status.CANCELLED, reason, follow_up=follow_up)


def release(position: Position, note: str) -> Change:
    """The item is put back untouched, because its worker is stopping: another goes on at once; not an attempt."""
    return Change(
        stage=position.stage,
        status=Status.PENDING,
        attempts=max(0, position.attempts - 1),
        delay_seconds=0.0,
        waiting_since=position.waiting_since,
        note=note,
        needs_attention=False,
        dispatch=True,
    )


def kills_its_workers(position: Position, policy: Policy) -> bool:
    """Whether the run about to start is one too many for now: each of the last ones died."""
    return position.deaths >= policy.attempts


def backoff_seconds(attempts: int, policy: Policy, jitter: float) -> float:
    """Doubles with every attempt up to the maximum; spread over its upper half so that items keep out of step."""
    full = min(policy.backoff_max_seconds, policy.backoff_first_seconds * 2.0 ** min(attempts - 1, 60))
    return full * (0.5 + jitter / 2)


def _is_overdue(position: Position, policy: Policy, now: datetime, patience_seconds: float = 0.0) -> bool:
    since = position.waiting_since
    longest = policy.attention_after_seconds + patience_seconds
    return since is not None and (now - since).total_seconds() >= longest


def _advance(position: Position, note: str, ends: bool, pipelines: Pipelines) -> Change:
    following = None if ends else pipelines.after(position.task, position.stage)
    if following is None:
        return _end(position, Status.SUCCESS, note)
    return Change(
        stage=following.name,
        status=Status.PENDING,
        attempts=0,
        delay_seconds=0.0,
        waiting_since=None,
        note=note,
        needs_attention=False,
        dispatch=True,
        leaves_volume=not following.staged,
    )


def _retry(
    position: Position,
    stage: str,
    reason: str,
    policy: Policy,
    now: datetime,
    jitter: float,
    leaves_volume: bool = False,
) -> Change:
    if position.attempts >= policy.attempts:
        return _give_up(position, reason)
    return Change(
        stage=stage,
        status=Status.PENDING,
        attempts=position.attempts,
        delay_seconds=backoff_seconds(position.attempts, policy, jitter),
        waiting_since=position.waiting_since or now,
        note=f"attempt {position.attempts} of {policy.attempts} failed: {reason}",
        needs_attention=_is_overdue(position, policy, now),
        dispatch=False,
        leaves_volume=leaves_volume,
    )


def _give_up(position: Position, reason: str) -> Change:
    note = f"gave up after {position.attempts} attempts at {position.stage}: {reason}"
    return _end(position, Status.FAILED, note, needs_attention=True, given_up=True)


def _end(
    position: Position,
    status: Status,
    note: str,
    needs_attention: bool = False,
    follow_up: FollowUp | None = None,
    given_up: bool = False,
) -> Change:
    return Change(
        stage=position.stage,
        status=status,
        attempts=position.attempts,
        delay_seconds=0.0,
        waiting_since=None,
        note=note,
        needs_attention=needs_attention,
        dispatch=False,
        leaves_volume=True,
        follow_up=follow_up,
        given_up=given_up,
    )
