"""The registry in a file: all its records as JSON lines, to rebuild a node from a backup or from its peers."""

from dpn.registry.archive.exporter import DamagedRegistry, export
from dpn.registry.archive.importer import Import, KindResult, Problem
from dpn.registry.archive.lines import FORMAT, VERSION, ArchiveHeader, BrokenArchive
from dpn.registry.archive.peers import PeerExport, export_from_peer
from dpn.registry.archive.reader import ArchiveContents, ArchiveReader, check

__all__ = [
    "FORMAT",
    "VERSION",
    "ArchiveContents",
    "ArchiveHeader",
    "ArchiveReader",
    "BrokenArchive",
    "DamagedRegistry",
    "Import",
    "KindResult",
    "PeerExport",
    "Problem",
    "check",
    "export",
    "export_from_peer",
]
