"""Whether an object is copied, counts as there, or may not be replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dpn.jobs.rules import Overwrite, Verdict, differing_hash, is_same, judge
from dpn.objects.root import ObjectInfo

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def info(size: int = 3, *, later: float = 0.0, **hashes: str) -> ObjectInfo:
    return ObjectInfo("a", size, NOW + timedelta(seconds=later), "tag", hashes=hashes)


@pytest.mark.parametrize("overwrite", Overwrite)
def test_what_is_not_there_is_copied(overwrite: Overwrite) -> None:
    assert judge(info(), None, overwrite) is Verdict.COPY


@pytest.mark.parametrize(
    ("overwrite", "same", "different"),
    [
        (Overwrite.IF_DIFFERENT, Verdict.SKIP, Verdict.COPY),
        (Overwrite.NEVER, Verdict.SKIP, Verdict.REFUSE),
        (Overwrite.ALWAYS, Verdict.COPY, Verdict.COPY),
    ],
)
def test_what_is_there_counts_if_it_is_the_same(overwrite: Overwrite, same: Verdict, different: Verdict) -> None:
    assert judge(info(), info(), overwrite) is same
    assert judge(info(), info(size=4), overwrite) is different


@pytest.mark.parametrize(
    ("target", "same"),
    [
        (info(), True),
        (info(later=1.0), True),
        (info(later=1.1), False),
        (info(later=-60), False),
        (info(sha256="aa"), True),
        (info(later=-60, md5="AA"), True),
        (info(later=-60, md5="aa", sha1="bb"), True),
        (info(md5="ab"), False),
        (info(size=4, md5="aa"), False),
    ],
)
def test_hashes_decide_where_both_have_one_and_else_size_and_time(target: ObjectInfo, same: bool) -> None:
    assert is_same(info(md5="aa", crc32="1"), target) is same


def test_the_hash_by_which_two_differ_is_named() -> None:
    assert differing_hash({"md5": "aa", "sha1": "b"}, {"md5": "AA", "sha256": "c"}) is None
    assert differing_hash({"md5": "aa", "sha1": "b"}, {"md5": "AA", "sha1": "c"}) == "sha1"
