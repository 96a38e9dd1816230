"""Waits beside a demo and cleans up if that dies: `python -m tools.demo.janitor FOLDER [--remove[-all]]`.

It reads from a pipe that only the demo holds. The nodes' processes die with the demo by themselves (see
`dpn.supervision.running`); servers of `bin/services` do not, by design, and a folder cannot.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.demo.workdir import FINISHED, remove
from tools.network.services import stop_below


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--remove-all", action="store_true")
    options = parser.parse_args()
    if sys.stdin.buffer.read() == FINISHED:
        return
    stop_below(options.folder, say=print)
    if options.remove or options.remove_all:
        remove(options.folder, everything=options.remove_all)


if __name__ == "__main__":
    main()
