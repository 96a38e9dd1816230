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
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

UUID = "11111111-1111-4111-8111-111111111111"
MEBIBYTE = 1 << 20
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


@dataclass(frozen=True)
class Measurement:
    contender: str
    seconds: float
    processor_seconds: float
    peak_mebibytes: float


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
    if arguments.json:
        facts = {"cores": os.cpu_count(), "python": sys.version.split()[0], "results": results}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def run(name: str, scenario: Scenario, folder: Path, how: argparse.Namespace) -> list[dict[str, object]]:
    tar = folder / f"{UUID}.tar"
    write = [sys.executable, "-m", "benchmarks.bags_validate", "--write", str(tar), "--scenario", name]
    subprocess.run(write, check=True)  # by another process: a child's peak begins with its parent's
    print(
        f"\n{name}: {scenario.files:,} files of {scenario.file_bytes:,} bytes in a tar of {tar.stat().st_size:,}"
    )
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the first run", flush=True)
    measured = [best(contender, tar, folder, how) for contender in scenario.contenders]
    ours = next(one for one in measured if one.contender == "dpn")
    print(f"{'':32}{'seconds':>9}{'processor':>11}{'peak MiB':>10}{'dpn is × as fast':>18}")
    for one in measured:
        ratio = one.seconds / ours.seconds
        print(
            f"{one.contender:32}{one.seconds:9.2f}{one.processor_seconds:11.2f}{one.peak_mebibytes:10.0f}{ratio:18.2f}"
        )
    sys.stdout.flush()
    tar.unlink()
    return [asdict(one) for one in measured]


def best(contender: str, tar: Path, folder: Path, how: argparse.Namespace) -> Measurement:
    runs = (measure(contender, tar, folder, cold=how.cold) for _ in range(how.repeat))
    return min(runs, key=lambda one: one.seconds)


def measure(contender: str, tar: Path, folder: Path, *, cold: bool) -> Measurement:
    seconds = processor = peak = 0.0
    for command in commands(contender, tar, folder):
        if cold:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if cold and command[0] == "tar":
            os.sync()  # what it wrote is part of its work; the others write nothing
        seconds += time.perf_counter() - start
        processor += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
        if child.returncode:
            raise SystemExit(f"{contender} failed: {command}")
    shutil.rmtree(folder / UUID, ignore_errors=True)
    return Measurement(contender, seconds, processor, peak)


def commands(contender: str, tar: Path, folder: Path) -> list[list[str]]:
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


def content(noise: bytes, number: int, size: int) -> Iterator[bytes]:
    for at in range(0, size, MEBIBYTE):
        stamp = f"{number:08}{at:012}".encode()
        yield (stamp + noise[len(stamp) :])[: size - at]


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
