"""How a demo can end without an answer: what was asked cannot be done, what it needs failed, it was stopped."""

from __future__ import annotations

import signal

from dpn.errors import Interrupted

EXIT_NOT_EVERYWHERE = 1
EXIT_UNUSABLE = 2
EXIT_SIGNAL = 128


class Unusable(Exception):
    """What was asked for cannot be used; the text says what, where and what to do. Nothing was started."""


class Broken(Exception):
    """Something that the network needs cannot be started or keeps dying; the text says what, and where to look."""


class StopRequested(Interrupted):
    """Ctrl-C, SIGTERM or SIGHUP: everything is stopped."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports for a program ended by this signal."""
        return EXIT_SIGNAL + self.number
