"""The staged file as a source of buffers and request bodies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpn.errors import Interrupted
from dpn.s3.body import SEND_BYTES, SliceBody
from dpn.s3.plan import Part
from dpn.storage.errors import StagedChanged
from dpn.storage.source import open_source

PART = Part(number=2, offset=100, size=3 * SEND_BYTES + 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "staged.tar"
    path.write_bytes(os.urandom(PART.offset + PART.size + 50))
    return path


def go_on() -> None:
    """Nobody asks to stop."""


def stop() -> None:
    raise Interrupted("stopping")


def test_a_part_is_read_from_its_offset_to_its_end(path: Path) -> None:
    with open_source(path) as source:
        assert b"".join(map(bytes, source.buffers(PART, go_on))) == path.read_bytes()[100:][: PART.size]


@pytest.mark.parametrize("size", [1, 16 * 1024, SEND_BYTES + 1, -1])
def test_a_body_is_its_part_however_it_is_read_and_after_a_rewind_too(path: Path, size: int) -> None:
    with open_source(path) as source:
        body = SliceBody(source, PART, go_on)
        for _ in range(2):
            assert b"".join(iter(lambda: body.read(size), b"")) == path.read_bytes()[100:][: PART.size]
            assert body.tell() == PART.size
            assert body.seek(0) == 0
        assert body.seek(0, os.SEEK_END) == PART.size


def test_a_body_stops_between_two_buffers_and_keeps_why(path: Path) -> None:
    with open_source(path) as source:
        body = SliceBody(source, PART, stop)
        with pytest.raises(Interrupted):
            body.read(1)
        assert isinstance(body.failure, Interrupted)


def test_a_file_that_shrank_is_found_out(path: Path) -> None:
    with open_source(path) as source:
        os.truncate(path, 150)
        with pytest.raises(StagedChanged, match="ends at byte 150"):
            list(source.buffers(PART, go_on))


def test_a_fifo_does_not_hold_the_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(StagedChanged, match="not a regular file"), open_source(tmp_path / "fifo"):
        pass
