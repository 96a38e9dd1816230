"""How a file is cut into parts: decided from its size alone, before a byte is read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_PARTS = 10_000
"""S3 numbers parts from 1 to 10,000 (Amazon S3 multipart upload limits)."""
ROUND_TO_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Part:
    """One slice of a file; numbered from 1 as S3 does."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True)
class PartPlan:
    """A file of `size` bytes in parts of `part_size`, the last one shorter; an empty file is one empty part."""

    size: int
    part_size: int

    @property
    def count(self) -> int:
        return max(1, -(-self.size // self.part_size))

    @property
    def whole(self) -> bool:
        """Whether the file is sent in one piece, without a multipart upload."""
        return self.count == 1

    def parts(self) -> Iterator[Part]:
        for number in range(1, self.count + 1):
            offset = (number - 1) * self.part_size
            yield Part(number, offset, min(self.part_size, self.size - offset))


def plan_parts(size: int, part_size: int) -> PartPlan:
    """Parts of `part_size` bytes, or of as many more as it takes to need no more than 10,000 of them."""
    least = -(-size // MAX_PARTS)
    if least > part_size:
        part_size = -(-least // ROUND_TO_BYTES) * ROUND_TO_BYTES
    return PartPlan(size, part_size)


def same_plan(size: int, part_size: int | None) -> PartPlan | None:
    """The plan with just this part size, if a store could have taken it; none for nonsense."""
    if part_size is None or part_size <= 0:
        return None
    plan = PartPlan(size, part_size)
    return plan if plan.count <= MAX_PARTS else None
