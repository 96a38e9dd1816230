"""Validates a bag: reads it once, then holds what it found against BagIt and a profile. Unpacks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from dpn.bags.contents import Contents
from dpn.bags.digests import ALGORITHMS
from dpn.bags.findings import Findings, shown
from dpn.bags.folder_contents import FolderContents
from dpn.bags.hash_threads import OnProgress, Progress, default_threads
from dpn.bags.index import DEFAULT_MAX_ENTRIES, PAYLOAD_DIRECTORY
from dpn.bags.report import Report
from dpn.bags.tar.contents import TarContents
from dpn.bags.tar.file import TarFile
from dpn.bags.validation.bag_info import DATE_LABEL, OXUM_LABEL, check_bag_info
from dpn.bags.validation.fetch_txt import FETCH_FILE, check_fetch
from dpn.bags.validation.manifests import (
    ManifestCheck,
    ManifestFile,
    proves_payload,
    proves_tags,
    report_unlisted_payload,
    report_unlisted_tags,
)
from dpn.bags.validation.profile_check import PROFILE_LABEL, BagFacts, check_profile
from dpn.bags.validation.profiles import BAG_INFO, Profile
from dpn.bags.validation.tags import (
    DECLARATION,
    MAX_DECLARATION_BYTES,
    Declaration,
    Tags,
    read_declaration,
    read_tags,
)
from dpn.cancellation import Cancellation

TAG_MANIFEST = b"tagmanifest-sha256.txt"


def validate(
    path: Path,
    *,
    profile: Profile | None,
    strict: bool = False,
    whole_file_sha256: bool = False,
    threads: int = 0,
    progress: OnProgress | None = None,
    cancellation: Cancellation | None = None,
    max_entries: int = DEFAULT_MAX_ENTRIES,
) -> Report:
    """Judge the bag in a folder or an uncompressed tar: complete and valid by RFC 8493 §3, and by the profile.

    `strict` makes an error of every warning. `threads` 0: one a core. `progress` is told bytes and files read so
    far, every few megabytes and at the end. Raises OSError if the bag cannot be read, NotABag if it is neither
    folder nor tar, BagChanged if it was written to meanwhile, and what `cancellation` was given, within a second.
    """
    findings = Findings(profile.rulings if profile else None, strict=strict)
    state = Progress(progress, cancellation)
    threads = threads or default_threads()
    if path.is_dir():
        folder = FolderContents(path, findings, max_entries=max_entries, threads=threads, progress=state)
        folder.read()
        report = _Validation(path, folder, profile, findings).report()
        state.tell()
        return report
    with TarFile(path) as file:
        tar = TarContents(file, findings, max_entries=max_entries, threads=threads, progress=state)
        tar.read(whole_file_sha256=whole_file_sha256)
        report = _Validation(path, tar, profile, findings).report()
        state.tell()
        return report


def judge(path: Path, contents: Contents, profile: Profile | None, findings: Findings) -> Report:
    """Judge a bag that was read. Raises OSError, BagChanged."""
    return _Validation(path, contents, profile, findings).report()


class _Validation:
    """One bag that was read, and its judgement."""

    def __init__(self, path: Path, contents: Contents, profile: Profile | None, findings: Findings) -> None:
        self._path = path
        self._contents = contents
        self._index = contents.index
        self._profile = profile
        self._findings = findings
        self._payload_proven = False
        self._tags_proven = False

    def report(self) -> Report:
        if self._contents.complete:
            self._judge()
        number = self._index.find(TAG_MANIFEST)
        tag_manifest = self._sha256(number) if number is not None else None
        self._contents.check_unchanged()
        return Report(
            path=self._path,
            valid=self._findings.errors == 0 and self._contents.complete,
            profile=self._profile.name if self._profile else None,
            files=len(self._index),
            bytes=self._index.payload_bytes,
            tag_manifest_sha256=tag_manifest,
            payload_proven=self._payload_proven,
            tags_proven=self._tags_proven,
            sha256=self._contents.sha256,
            findings=self._findings.kept(),
            errors=self._findings.errors,
            warnings=self._findings.warnings,
        )

    def _judge(self) -> None:
        self._judge_names()
        declaration = self._declaration()
        manifests = self._manifests()
        self._judge_manifests(manifests, declaration)
        info = self._tags(declaration.info_file, declaration, (OXUM_LABEL, DATE_LABEL, PROFILE_LABEL))
        if info is not None:
            check_bag_info(info, self._index, declaration, self._findings)
        fetch = self._index.find(FETCH_FILE)
        if fetch is not None:
            check_fetch(self._contents.chunks(fetch), declaration, self._index, self._findings)
        if self._profile is not None:
            self._judge_profile(self._profile, declaration, info)

    def _judge_names(self) -> None:
        contents, findings = self._contents, self._findings
        self._index.report_conflicts(contents.name_of)
        if contents.name != contents.expected_name:
            message = f"The folder is {contents.name[:100]!r}, the file {contents.expected_name[:100]!r}."
            findings.add("bag-name-mismatch", message)
        if not self._index.has_folder(PAYLOAD_DIRECTORY):
            findings.add("payload-directory-missing", "There is no data folder.", PAYLOAD_DIRECTORY)

    def _declaration(self) -> Declaration:
        number = self._index.find(DECLARATION)
        if number is None:
            self._findings.add("declaration-missing", "There is no bagit.txt.", DECLARATION)
            return Declaration()
        if (size := self._index.sizes[number]) > MAX_DECLARATION_BYTES:
            self._findings.add("tag-file-too-large", f"The file has {size:,} bytes.", DECLARATION)
            return Declaration()
        return read_declaration(b"".join(self._contents.chunks(number)), self._findings)

    def _manifests(self) -> list[ManifestFile]:
        """The manifests that can be verified, payload first. Others, and those by another name, are findings.

        Of the latter one for each algorithm: what verifying costs beside reading them must not grow with them.
        """
        found: dict[tuple[str, bool, bool], ManifestFile] = {}
        for name, (number, said) in self._index.manifests.items():
            if said.algorithm not in ALGORITHMS:
                message = f"No such algorithm here: {said.algorithm}."
                self._findings.add("manifest-algorithm-unknown", message, name)
                continue
            column = self._index.digests.column(said.algorithm)
            manifest = ManifestFile(name, number, column, said.of_tags, said.is_exact)
            is_first = found.setdefault((said.algorithm, said.of_tags, said.is_exact), manifest) is manifest
            if not said.is_exact:
                what = "Its lines are checked" if is_first else "Its lines are not checked"
                message = f"{what}, and it counts as no manifest: that is called {said.exact.decode()}."
                self._findings.add("manifest-misnamed", message, name)
        payload = [manifest for manifest in found.values() if not manifest.of_tags]
        if not any(manifest.counts for manifest in payload):
            others = "".join(f"; {shown(manifest.name)} is none by its name" for manifest in payload)
            self._findings.add("manifest-missing", f"There is no payload manifest that can be verified{others}.")
        return sorted(found.values(), key=lambda manifest: (manifest.of_tags, manifest.name))

    def _judge_manifests(self, manifests: list[ManifestFile], declaration: Declaration) -> None:
        contents, findings = self._contents, self._findings
        listed = {manifest: self._judge_manifest(manifest, declaration) for manifest in manifests}
        counting = {manifest: files for manifest, files in listed.items() if manifest.counts}
        payload = {manifest: files for manifest, files in counting.items() if not manifest.of_tags}
        tags = {manifest: files for manifest, files in counting.items() if manifest.of_tags}
        report_unlisted_payload(contents, payload, declaration, findings)
        report_unlisted_tags(contents, list(tags.values()), findings)
        for manifest, files in tags.items():
            if manifest.name == TAG_MANIFEST:
                self._payload_proven = proves_payload(contents, files, payload)
                self._tags_proven = proves_tags(contents, files, tags)
            for omitted in (other for other in payload if not files[other.number]):
                message = f"{manifest.name.decode()} does not list {omitted.name.decode()}."
                findings.add("tag-manifest-incomplete", message, manifest.name, declaration.severity)

    def _judge_manifest(self, manifest: ManifestFile, declaration: Declaration) -> bytearray:
        missing = manifest.column.missing(self._index.is_payload, 0 if manifest.of_tags else 1)
        if missing:
            self._contents.compute(manifest.column, missing)
        return ManifestCheck(manifest, self._contents, declaration, self._findings).run()

    def _judge_profile(self, profile: Profile, declaration: Declaration, info: Tags | None) -> None:
        tags: dict[str, Tags | None] = {BAG_INFO: info}
        for path in profile.tag_rules:
            if path != BAG_INFO:
                tags[path] = self._tags(path.encode(), declaration, ())
        index = self._index
        facts = BagFacts(
            name=self._contents.expected_name,
            version=declaration.version,
            serialized=self._contents.serialized,
            tags=tags,
            manifests={name: said for name, (_, said) in index.manifests.items()},
            has_file=lambda path: index.find(path.encode()) is not None,
            tag_names=lambda: self._names(index.tag_numbers()),
            payload_names=lambda: self._names(index.payload_numbers()),
            payload_files=sum(index.is_payload),
            payload_bytes=index.payload_bytes,
        )
        check_profile(profile, facts, self._findings)

    def _tags(self, path: bytes, declaration: Declaration, asked: tuple[str, ...]) -> Tags | None:
        """Of a tag file, those that are asked for or for which the profile has rules; None if it is not there."""
        number = self._index.find(path)
        if number is None:
            return None
        rules = self._profile.tag_rules if self._profile is not None else {}
        of_rules = rules.get(BAG_INFO if path == declaration.info_file else path.decode(), {})
        return read_tags(self._contents.chunks(number), path, declaration, self._findings, {*asked, *of_rules})

    def _sha256(self, number: int) -> str:
        hasher = sha256()
        for chunk in self._contents.chunks(number):
            hasher.update(chunk)
        return hasher.hexdigest()

    def _names(self, numbers: Iterator[int]) -> Iterator[str]:
        return (self._contents.name_of(number).decode("utf-8", "backslashreplace") for number in numbers)
