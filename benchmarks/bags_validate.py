"""How fast bags are validated, beside `openssl dgst` and bagit-python on the same bytes in the same run.

    python -m benchmarks.bags_validate                     # 2 GiB in 16 files, 50,000 files of 1 KB
    python -m benchmarks.bags_validate --scenario million  # 1,000,000 files of 1 KB: time and memory
    python -m benchmarks.bags_validate --json results.json --workdir /fast/disk
    python -m benchmarks.bags_validate --cold              # everything from the disk and to it; as root

Needs some 7 GB under --workdir (removed afterwards) and memory enough to keep a bag in the page cache: everything
is read once beforehand, so that the disk is not what is measured; unless --cold empties the cache before each
command, and waits for the disk after it. Each figure is the best of --repeat runs of a
process of its own, from start to exit; memory is that process's peak. bagit-python cannot read tars: it is timed
with `tar -xf` before it, as its users must.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import (
    MEBIBYTE,
    Measurement,
    best_in_turns,
    content,
    measured,
    print_table,
    write_results,
)

UUID = "11111111-1111-4111-8111-111111111111"
BLOCK = 512


@dataclass(frozen=True)
class Scenario:
    """A bag: so many files of so many bytes, and which contenders it is for."""

    files: int
    file_bytes: int
    contenders: tuple[str, ...]


ALL = (
    "openssl",
    "dpn",
    "dpn, one thread",
    "dpn with whole-file SHA-256",
    "bagit-python",
    "bagit-python, all cores",
)
SCENARIOS = {
    "large": Scenario(16, 128 * MEBIBYTE, ALL),
    "small": Scenario(50_000, 1000, ALL),
    "million": Scenario(1_000_000, 1000, ("openssl", "dpn", "dpn with whole-file SHA-256")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], nargs="*", default=["large", "small"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--cold", action="store_true", help="from the disk, not from the page cache (Linux, root)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="only write the bag of one scenario, to this file")
    arguments = parser.parse_args()
    if arguments.write:
        write_bag(arguments.write, SCENARIOS[arguments.scenario[0]])
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    names = list(SCENARIOS) if "all" in arguments.scenario else arguments.scenario
    results = {}
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as folder:
        for name in names:
            results[name] = run(name, SCENARIOS[name], Path(folder), arguments)
    write_results(arguments.json, results)


def run(name: str, scenario: Scenario, folder: Path, how: argparse.Namespace) -> list[Measurement]:
    tar = folder / f"{UUID}.tar"
    write = [sys.executable, "-m", "benchmarks.bags_validate", "--write", str(tar), "--scenario", name]
    subprocess.run(write, check=True)  # by another process: a child's peak begins with its parent's
    print(
        f"\n{name}: {scenario.files:,} files of {scenario.file_bytes:,} bytes in a tar of {tar.stat().st_size:,}"
    )
    best = best_in_turns(scenario.contenders, lambda one: measure(one, tar, folder, cold=how.cold), how.repeat)
    ours = next(one for one in best if one.contender == "dpn")
    print_table(best, "dpn is × as fast", lambda one: one.seconds / ours.seconds)
    tar.unlink()
    return best


def measure(contender: str, tar: Path, folder: Path, *, cold: bool) -> Measurement:
    def written(command: Sequence[str]) -> None:
        if cold and command[0] == "tar":
            os.sync()  # what it wrote is part of its work; the others write nothing

    found = measured(contender, commands(contender, tar, folder, cold=cold), afterwards=written)
    shutil.rmtree(folder / UUID, ignore_errors=True)
    return found


def commands(contender: str, tar: Path, folder: Path, *, cold: bool) -> Iterator[list[str]]:
    for command in _commands(contender, tar, folder):
        if cold:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
        yield command


def _commands(contender: str, tar: Path, folder: Path) -> list[list[str]]:
    if contender == "openssl":
        return [["openssl", "dgst", "-sha256", str(tar)]]
    if contender.startswith("bagit-python"):
        processes = os.cpu_count() if "all cores" in contender else 1
        validate = [sys.executable, "-m", "bagit", "--validate", "--processes", str(processes), str(folder / UUID)]
        return [["tar", "-C", str(folder), "-xf", str(tar)], validate]
    options = {"dpn, one thread": "threads=1", "dpn with whole-file SHA-256": "whole_file_sha256=True"}
    code = (
        "import sys; from pathlib import Path; from dpn.bags.validation.profiles import load_profile; "
        "from dpn.bags.validation.validation import validate; "
        f"report = validate(Path(sys.argv[1]), profile=load_profile('dpn'), {options.get(contender, '')}); "
        "sys.exit(not report.valid)"
    )
    return [[sys.executable, "-c", code, str(tar)]]


def write_bag(tar: Path, scenario: Scenario) -> None:
    """A DPN bag, payload first, as the original network's ingest node wrote them."""
    with tar.open("wb", buffering=4 * MEBIBYTE) as file:

        def add(name: str, size: int, pieces: Iterator[bytes]) -> str:
            file.write(header(f"{UUID}/{name}".encode(), size))
            hasher = hashlib.sha256()
            for piece in pieces:
                hasher.update(piece)
                file.write(piece)
            file.write(bytes(-size % BLOCK))
            return f"{hasher.hexdigest()}  {name}\n"

        noise = random.Random(1).randbytes(MEBIBYTE)
        manifest = []
        for number in range(scenario.files):
            name = f"data/folder-{number // 1000:04}/file-{number:07}.bin"
            manifest.append(add(name, scenario.file_bytes, content(noise, number, scenario.file_bytes)))
        tags = {
            "bagit.txt": "BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": BAG_INFO,
            "dpn-tags/dpn-info.txt": DPN_INFO,
            "manifest-sha256.txt": "".join(manifest),
        }
        lines = [add(name, len(text), iter([text.encode()])) for name, text in tags.items()]
        tag_manifest = "".join(lines)
        add("tagmanifest-sha256.txt", len(tag_manifest), iter([tag_manifest.encode()]))
        file.write(bytes(2 * BLOCK))


def header(name: bytes, size: int) -> bytes:
    start = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, 1_700_000_000)
    end = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    return start + b"%06o\0 " % (sum(start) + sum(end) + 8 * 32) + end


BAG_INFO = """Source-Organization: somebody
Organization-Address:
Contact-Name:
Contact-Phone:
Contact-Email:
Bagging-Date: 2024-01-02
Bag-Size: 1
Bag-Group-Identifier:
Bag-Count: 1
"""
DPN_INFO = f"""DPN-Object-ID: {UUID}
Local-ID: benchmark
Ingest-Node-Name: north
Ingest-Node-Address:
Ingest-Node-Contact-Name:
Ingest-Node-Contact-Email:
Version-Number: 1
First-Version-Object-ID: {UUID}
Interpretive-Object-ID:
Rights-Object-ID:
Bag-Type: data
"""

if __name__ == "__main__":
    main()
