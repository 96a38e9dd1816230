"""Forward-only migrations of the database, run by `dpn db upgrade`: one file a step, named for its revision."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
REVISIONS = tuple(sorted(file.name.partition("_")[0] for file in FOLDER.glob("versions/0*.py")))
"""From the first to the one that this software needs, as Alembic would tell them too, but without its weight."""
