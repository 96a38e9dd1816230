"""Which of NDSA's Levels of Digital Preservation (version 2.0, 2019; row Integrity) a node reaches. Pure.

What software cannot see is neither claimed nor denied: it is named, and is the institution's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """Whether something that a level asks for is the case."""

    YES = "yes"
    NO = "no"
    YOURS = "yours to say"


@dataclass(frozen=True)
class Requirement:
    """Something that a level asks for, whether it is the case, and what that is known from."""

    level: int
    what: str
    answer: Answer
    why: str


@dataclass(frozen=True)
class Facts:
    """What is known of our copies."""

    copies: int
    overdue: int
    failed: int
    never: int
    have_peers: bool
    checks_run: bool
    """Whether this software has the stages that check a copy."""
    repaired_at_once: bool = False
    """Whether a copy that is found bad is replaced without a person asking for it."""


@dataclass(frozen=True)
class Levels:
    """`reached`: all that is asked up to there is the case, as far as software can see; 0: not even level 1."""

    reached: int
    asked: tuple[Requirement, ...]

    @property
    def missing(self) -> tuple[Requirement, ...]:
        """What keeps the node from the next level."""
        return tuple(a for a in self.asked if a.level == self.reached + 1 and a.answer is Answer.NO)

    @property
    def yours(self) -> tuple[Requirement, ...]:
        """What the level that is reached takes for granted."""
        return tuple(a for a in self.asked if a.level <= self.reached and a.answer is Answer.YOURS)


def levels(facts: Facts) -> Levels:
    """The assessment of a node of which this much is known."""
    asked = tuple(_asked(facts))
    missing = [a.level for a in asked if a.answer is Answer.NO]
    return Levels(min(missing, default=5) - 1, asked)


def _asked(facts: Facts) -> list[Requirement]:
    in_time = facts.checks_run and facts.copies > 0 and not facts.overdue
    return [
        Requirement(1, "checksums that came with content are verified", Answer.YES, "every bag is validated"),
        Requirement(
            1, "checksums are made where none came", Answer.YES, "ingest makes a bag of what is deposited"
        ),
        Requirement(1, "content is checked for viruses", Answer.YOURS, "no bag is opened for that here"),
        Requirement(2, "checksums are verified when content is copied", Answer.YES, "each copy has a receipt"),
        Requirement(2, "originals are read through write-blockers", Answer.YOURS, "happens before a deposit"),
        Requirement(
            2,
            "checksums are kept in another place, too",
            Answer.YES if facts.have_peers else Answer.NO,
            "the registries of peers have them" if facts.have_peers else "no [peers.…] in the settings",
        ),
        Requirement(3, "every copy is verified at fixed intervals", _yes(in_time), _why_in_time(facts)),
        Requirement(
            3, "verifications and their outcomes are recorded", _yes(facts.checks_run), "FixityCheck records"
        ),
        Requirement(3, "checksums can be audited on demand", Answer.YES, "this report; receipts: `dpn item show`"),
        Requirement(4, "copies are verified after certain events", Answer.YOURS, "a move, a disaster, new media"),
        Requirement(
            4, "damaged copies are replaced", _yes(facts.have_peers and not facts.failed), _why_repaired(facts)
        ),
    ]


def _why_in_time(facts: Facts) -> str:
    if not facts.checks_run:
        return "no worker checks copies"
    if not facts.copies:
        return "there is no copy yet"
    return f"{facts.overdue} overdue, {facts.never} never checked, of {facts.copies}"


def _why_repaired(facts: Facts) -> str:
    if facts.failed:
        return f"{facts.failed} bad copies are not replaced yet"
    if not facts.have_peers:
        return "there is no peer to get a good one from"
    return "by themselves (recovery.repair)" if facts.repaired_at_once else "by hand: `dpn fixity repair`"


def _yes(is_so: bool) -> Answer:
    return Answer.YES if is_so else Answer.NO
