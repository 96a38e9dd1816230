"""The `[processes]` table."""

from __future__ import annotations

import os
from pathlib import Path

from dpn.setting_types import AbsolutePath, Section


class ProcessesSettings(Section):
    """How `dpn_node` runs the processes of the node on this machine."""

    directory: AbsolutePath | None = None

    def folder(self, node: str) -> Path:
        """Where it keeps what runs: `directory`, or the user's folder for such things (XDG_STATE_HOME)."""
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        home = state if state.is_absolute() else Path.home() / ".local" / "state"
        return self.directory or home / "dpn" / node
