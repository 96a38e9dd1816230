"""Where other nodes fetch the bags that we want replicated: a folder for each node, an entry for each bag.

    <folder>/.bags/<uuid>.tar       the bag, once, under a name that stays
    <folder>/<node>/<uuid>.tar      what the node's rsync account sees: a hard link to it, or a symbolic one

An entry appears whole, under its final name, and survives a power cut. Taken away, it lies beside that name as
`.<uuid>.tar.<id>.withdrawn` until that has been told. Nothing here decides what may go.
"""

from __future__ import annotations

import errno
import grp
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from dpn.errors import Misconfigured, PermanentError
from dpn.files import WRITE_BYTES, make_durable, new_file, sync_folder
from dpn.identifiers import NAMESPACE, UUID
from dpn.outbound.settings import OutboundSettings

BAGS = ".bags"
SUFFIX = ".tar"
WITHDRAWN = re.compile(r"\.(?P<bag>[0-9a-f-]{36})\.tar\.(?P<id>[0-9a-f]{32})\.withdrawn\Z")
READABLE = 0o644
BROWSABLE = 0o755
BY_GROUP = 0o750
ONLY_FOR_US = 0o700


class NotOurBag(PermanentError):
    """Under the bag's name in the outbound folder lies something else: look at it, and move it away."""


@dataclass(frozen=True, order=True)
class Offer:
    """A bag offered to a node; for the bag itself, which each offer points to, the node is none."""

    bag: str
    node: str | None
    path: Path


@dataclass(frozen=True)
class Withdrawn:
    """An entry that was taken away; `left` is what remains to be discarded once that has been told."""

    entry: Offer
    id: str
    """Tells this withdrawal from any other, also of the same entry."""
    left: Path


class Outbound:
    """The outbound folder of one staging volume. Every method raises OSError if the disk fails."""

    def __init__(self, settings: OutboundSettings) -> None:
        self._settings = settings
        self._folder = settings.folder

    @property
    def is_there(self) -> bool:
        """Whether this machine has the folder."""
        return self._folder.is_dir()

    def link(self, node: str, bag: str) -> str:
        """The address under which `node` fetches the bag."""
        return self._settings.link.format(node=node, bag=bag)

    def offer(self, tar: Path, bag: str, node: str, *, anew: bool = False) -> None:
        """Puts the bag where `node` fetches it. Safe to repeat. Raises NotOurBag, Misconfigured (no folder).

        `anew`: from `tar`, even if the bag lies there for other nodes already, who keep what they have.
        """
        kept = self._keep(tar, bag, anew)
        entry = self._folder / node / f"{bag}{SUFFIX}"
        self._make_folder(entry.parent, node)
        if self._settings.form == "symlink":
            _place(entry, lambda name: name.symlink_to(Path("..", BAGS, kept.name)))
        else:
            _place(entry, lambda name: os.link(kept, name))

    def offers(self, bag: str, node: str) -> bool:
        """Whether the bag lies where `node` fetches it."""
        return (self._folder / node / f"{bag}{SUFFIX}").exists()

    def entries_of(self, bag: str, node: str) -> list[Offer]:
        """What there is of an offer of the bag to the node, and the bag itself."""
        paths = ((node, self._folder / node / f"{bag}{SUFFIX}"), (None, self._folder / BAGS / f"{bag}{SUFFIX}"))
        return [Offer(bag, whose, path) for whose, path in paths if path.parent.is_dir()]

    def withdraw(self, entry: Offer) -> Withdrawn | None:
        """Takes an entry away, and what was to become it; safe to repeat. None if it was not there."""
        withdrawn = _withdrawn(entry, uuid4().hex)
        try:
            entry.path.rename(withdrawn.left)
            was_there = True
        except FileNotFoundError:
            was_there = False
        _remove_unfinished(entry.path)
        sync_folder(entry.path.parent)
        return withdrawn if was_there else None

    def discard(self, withdrawn: Withdrawn) -> None:
        """Removes what is left of an entry that was taken away; safe to repeat."""
        withdrawn.left.unlink(missing_ok=True)

    def entries(self) -> Iterator[Offer]:
        """Every bag that is offered or kept to be, by bag; what has another form of name is somebody else's."""
        found = []
        for node, path in self._files():
            bag = path.name.removesuffix(SUFFIX)
            if path.suffix == SUFFIX and UUID.match(bag):
                found.append((bag, node or "", path))
        yield from (Offer(bag, node or None, path) for bag, node, path in sorted(found))

    def withdrawn(self) -> Iterator[Withdrawn]:
        """What is left of entries that were taken away: by somebody at this moment, or by one who died then."""
        for node, path in self._files():
            name = WITHDRAWN.match(path.name)
            if name is not None and UUID.match(name["bag"]):
                entry = Offer(name["bag"], node, path.with_name(f"{name['bag']}{SUFFIX}"))
                yield _withdrawn(entry, name["id"])

    def _files(self) -> Iterator[tuple[str | None, Path]]:
        """Every file in the folders of nodes, and of the bags themselves (no node)."""
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            node = None if folder.name == BAGS else folder.name
            if folder.is_dir() and not folder.is_symlink() and (node is None or NAMESPACE.match(node)):
                yield from ((node, path) for path in folder.iterdir())

    def _keep(self, tar: Path, bag: str, anew: bool) -> Path:
        """The bag under the name that stays."""
        kept = self._folder / BAGS / f"{bag}{SUFFIX}"
        self._make_folder(kept.parent, None)
        if kept.exists() and kept.stat().st_size != tar.stat().st_size:
            raise NotOurBag(f"{kept} is not the bag that is to be offered: look at it, and move it away")
        if not kept.exists() or (anew and not kept.samefile(tar)):
            tar.chmod(READABLE)
            try:
                _place(kept, lambda name: os.link(tar, name))
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
                _remove_unfinished(kept)
                _copy(tar, kept)
        else:
            sync_folder(kept.parent)  # who put it there may have died, or its disk failed, before this
        return kept

    def _make_folder(self, folder: Path, node: str | None) -> None:
        if not self.is_there:
            raise Misconfigured(
                f"the outbound folder {self._folder} is not there: make or mount it, readable by the accounts "
                "that the other nodes' rsync uses"
            )
        is_new = not folder.is_dir()
        if is_new:
            folder.mkdir(exist_ok=True)
        if self._settings.group is not None:
            _restrict(folder, None if node is None else self._settings.group.format(node=node))
        elif is_new:
            folder.chmod(BROWSABLE)  # whatever our umask is: the nodes' accounts are others
        if is_new:
            sync_folder(self._folder)


def _restrict(folder: Path, group: str | None) -> None:
    """Lets only this group of the system look into the folder, or nobody but us. Raises Misconfigured.

    What lies in it may be for all to read: a bag is one file, however many nodes it is offered to.
    """
    if group is None:
        folder.chmod(ONLY_FOR_US)
        return
    try:
        os.chown(folder, -1, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError) as error:
        raise Misconfigured(
            f"{folder} cannot be given to the group {group}, as [ingest.outbound] says: make that group, have our "
            f"own user in it (usermod -aG {group} dpn), and restart what runs"
        ) from error
    folder.chmod(BY_GROUP)


def _withdrawn(entry: Offer, withdrawal: str) -> Withdrawn:
    return Withdrawn(entry, withdrawal, entry.path.with_name(f".{entry.path.name}.{withdrawal}.withdrawn"))


def _place(path: Path, make: Callable[[Path], None]) -> None:
    """What `make` makes under a temporary name, under the name `path`, in place of what was there."""
    temporary = path.with_name(f".{path.name}.new.tmp")  # the same for all: what a crash leaves is taken up again
    temporary.unlink(missing_ok=True)
    try:
        make(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # renaming one hard link over another of the same file leaves both
    sync_folder(path.parent)


def _remove_unfinished(path: Path) -> None:
    """What a process left that was killed while it made `path`."""
    for unfinished in path.parent.glob(f".{path.name}.*.tmp"):
        unfinished.unlink(missing_ok=True)


def _copy(tar: Path, path: Path) -> None:
    """Where no link can be made: another file system."""
    with new_file(path, permissions=READABLE) as (target, temporary), tar.open("rb") as source:
        shutil.copyfileobj(source, target, WRITE_BYTES)
        make_durable(target)
        temporary.chmod(READABLE)
        temporary.replace(path)
    sync_folder(path.parent)
