"""Every way to fail has one of the few names that others know, and the status that rclone would have had."""

from __future__ import annotations

import errno

import pytest

from dpn import errors
from dpn.jobs.failures import FailureClass, class_of, rclone_status
from dpn.objects.keys import KeyRefused

UNAVAILABLE = ("store:x", "it refused")


@pytest.mark.parametrize(
    ("error", "failure", "status"),
    [
        (errors.StoreMissing("gone"), "source_missing", 4),
        (errors.SourceChanged("changed"), "source_changed", 1),
        (errors.ObjectExists("there"), "dest_exists", 1),
        (errors.StoreFull(*UNAVAILABLE), "dest_full", 1),
        (errors.NoSpace("full"), "dest_full", 1),
        (errors.AccessRefused("no"), "auth", 1),
        (errors.StoreMismatch("other bytes"), "checksum_mismatch", 1),
        (errors.StoreTimeout(*UNAVAILABLE), "timeout", 5),
        (errors.StoreUnavailable(*UNAVAILABLE), "network", 5),
        (errors.Misconfigured("no such folder"), "bad_request", 1),
        (KeyRefused("a key"), "bad_request", 1),
        (errors.StoreCold("cold"), "network", 5),
        (OSError(errno.EMFILE, "Too many open files"), "tool_crash", 1),
        (ZeroDivisionError("a bug"), "bad_request", 1),
    ],
)
def test_each_error_has_its_class_and_status(error: Exception, failure: str, status: int) -> None:
    found = class_of(error)
    assert (found.value, rclone_status(found)) == (failure, status)


def test_a_folder_that_is_missing_is_told_from_an_object() -> None:
    assert rclone_status(FailureClass.SOURCE_MISSING, whole_folder=True) == 3
    assert rclone_status(None) == rclone_status(None, whole_folder=True) == 0


def test_only_what_may_pass_by_itself_is_tried_again_by_itself() -> None:
    passing = {one.value for one in FailureClass if one.may_pass}
    assert passing == {"network", "timeout", "tool_crash", "dest_full", "unknown_outcome"}
