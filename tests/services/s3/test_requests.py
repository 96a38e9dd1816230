"""How requests are sent."""

from __future__ import annotations

import io
from typing import Any

import pytest

from dpn.s3.connection import Connection


class Pieces:
    """A body that is read piece by piece, as a file is."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()


@pytest.mark.parametrize(("whole", "asks_first"), [(True, False), (False, True)])
def test_only_a_body_that_is_read_as_it_is_sent_waits_for_the_server_to_want_it(
    versitygw: Connection, whole: bool, asks_first: bool
) -> None:
    sent: list[Any] = []
    events = versitygw.client.meta.events
    events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request.headers.get("Expect")))
    body: Any = b"12345" if whole else Pieces(b"12345")
    versitygw.call(
        "writing",
        lambda: versitygw.client.put_object(Bucket=versitygw.bucket, Key="p/k", Body=body, ContentLength=5),
    )
    assert sent == [b"100-continue" if asks_first else None]
