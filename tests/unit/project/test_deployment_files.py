"""The units, timers, cron lines and servers in config/ fit the programs that they start."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from dpn.work.settings import WorkSettings
from workers.pipelines import PIPELINES

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "config"
UNITS = sorted((CONFIG / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
INSTALLED = "/opt/dpn"
SETTINGS = "/etc/dpn/node.toml"
TOUCH_BAGS = {"dpn-worker@.service", "dpn-cleanup.service"}


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_unit_starts_a_program_that_we_ship(path: Path) -> None:
    program, *arguments = unit(path)["Service"]["ExecStart"].split()
    shipped = ROOT / Path(program).relative_to(INSTALLED)
    assert shipped.stat().st_mode & 0o111
    assert arguments[:2] == ["--config", SETTINGS]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_unit_runs_unprivileged_and_may_touch_no_more_than_it_needs(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == service["Group"] == "dpn"
    assert service["ProtectSystem"] == "strict"
    assert service.get("ReadWritePaths") == ("/srv/dpn" if path.name in TOUCH_BAGS else None)
    assert service["CapabilityBoundingSet"] == ""
    for switch in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictNamespaces"):
        assert service[switch] == "yes"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_all_units_have_the_same_sandbox_but_for_the_bags(path: Path) -> None:
    def sandbox(of: Path) -> list[str]:
        text = of.read_text().partition("# What the process may touch")[2].partition("[Install]")[0]
        return [line for line in text.splitlines()[1:] if line and not line.startswith("ReadWritePaths=")]

    assert sandbox(path) == sandbox(SERVICES[0]) != []


def test_a_worker_has_the_time_to_finish_and_its_children_are_left_alone_meanwhile() -> None:
    service = unit(CONFIG / "systemd" / "dpn-worker@.service")["Service"]
    assert service["Type"] == "notify"
    assert service["KillSignal"] == "SIGTERM"
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= WorkSettings().stop_timeout_seconds + 60
    assert unit(CONFIG / "systemd" / "dpn-worker@.service")["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_instances_that_the_worker_unit_names_are_stages() -> None:
    text = (CONFIG / "systemd" / "dpn-worker@.service").read_text()
    instances = set(re.findall(r"dpn-worker@([a-z0-9-]+)", text))
    assert instances == {spec.worker for spec in PIPELINES.all_specs()} - {"tell"}, "every worker tells"


@pytest.mark.parametrize("path", [unit for unit in UNITS if unit.suffix == ".timer"], ids=lambda path: path.name)
def test_a_timer_has_a_service_that_runs_once_and_stops_with_the_node(path: Path) -> None:
    assert unit(path.with_suffix(".service"))["Service"]["Type"] == "oneshot"
    assert unit(path)["Unit"]["PartOf"] == "dpn.target"


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace(f"{INSTALLED}/", f"{ROOT}/"))
    names = [path.name.replace("@.", "@copy.") for path in UNITS]
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *(f"./{name}" for name in names)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "dpn" in line]
    assert not ours


def test_a_cron_line_starts_a_program_that_we_ship_for_the_user_of_the_units() -> None:
    lines = [line for line in (CONFIG / "cron.example").read_text().splitlines() if re.match(r"[*0-9]", line)]
    programs = [re.findall(rf"{INSTALLED}/(\S+)", line) for line in lines]
    assert programs == [["bin/dpn_sync"], ["bin/dpn_sync"], ["bin/dpn_queue"], ["bin/dpn_cleanup"], ["bin/dpn"]]
    for line, (program,) in zip(lines, programs, strict=True):
        assert line.split()[5] == "dpn"
        assert (ROOT / program).stat().st_mode & 0o111
    assert f"DPN_CONFIG={SETTINGS}" in (CONFIG / "cron.example").read_text()


def test_every_image_is_pinned_and_every_port_is_on_the_loopback_address() -> None:
    services = yaml.safe_load((CONFIG / "compose.yml").read_text())["services"]
    assert set(services) == {"nsqlookupd", "nsqd", "postgresql"}
    for service in services.values():
        assert re.search(r":v?\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
