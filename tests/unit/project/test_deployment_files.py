"""The units, timers, cron lines and servers in config/ fit the programs that they start."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from dpn.cli.processes.node import JOBS, SERVE, STAGE_WORKERS
from dpn.supervision.schedule import SUNDAY
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


def test_the_server_sees_no_bags_and_no_secrets_and_has_limits() -> None:
    text = (CONFIG / "systemd" / "dpn-serve.service").read_text()
    service = unit(CONFIG / "systemd" / "dpn-serve.service")["Service"]
    assert service["InaccessiblePaths"].split() == ["-/etc/dpn/secrets", "-/srv/dpn"]
    assert service.keys() >= {"MemoryMax", "TasksMax", "LimitNOFILE"}
    assert "#LoadCredential=database-url:" in text
    assert "#Environment=DPN_DATABASE__URL_FILE=%d/database-url" in text


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


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LONG = datetime(2026, 11, 28, 9, 1, 30, tzinfo=UTC)


def next_by_calendar(when: str, moment: datetime) -> datetime:
    """What a timer's OnCalendar means, in the forms that ours have: `*:2/5`, `*-*-* 03:17`, `Sun *-*-* 05:37`."""
    due = moment.replace(second=0, microsecond=0)
    while True:
        due += timedelta(minutes=1)
        if found := re.fullmatch(r"\*:(\d+)/(\d+)", when):
            first, step = map(int, found.groups())
            matches = due.minute >= first and (due.minute - first) % step == 0
        else:
            day, _, clock = when.removeprefix("*-*-* ").rpartition(" ")
            matches = f"{due:%H:%M}" == clock and day.removesuffix(" *-*-*") in ("", WEEKDAYS[due.weekday()])
        if matches:
            return due


def test_every_timer_is_a_job_that_dpn_node_runs_with_the_same_command_and_times() -> None:
    timers = {path.stem.removeprefix("dpn-"): path for path in UNITS if path.suffix == ".timer"}
    assert timers.keys() == JOBS.keys()
    for name, path in timers.items():
        timer, service = unit(path)["Timer"], unit(path.with_suffix(".service"))["Service"]
        job = JOBS[name]
        moment = LONG
        for _ in range(20):
            due = job.schedule(moment)
            assert due == next_by_calendar(timer["OnCalendar"], moment), name
            moment = due
        program, *arguments = service["ExecStart"].split()
        command = [Path(program).name.removeprefix("dpn").removeprefix("_"), *arguments[2:]]
        assert tuple(word for word in command if word) == job.command
        assert job.limit_seconds == seconds(service["TimeoutStartSec"])
        assert job.spread_seconds == seconds(timer.get("RandomizedDelaySec", "0"))


def seconds(text: str) -> float:
    number, word = re.fullmatch(r"(\d+)(\w*)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"h": 3600, "min": 60, "m": 60, "": 1}[word]


def test_cron_has_the_times_of_the_timers() -> None:
    lines = [line for line in (CONFIG / "cron.example").read_text().splitlines() if re.match(r"[*0-9]", line)]
    times = {re.findall(r"/(\w+)\.lock", line)[0]: line.split()[:5] for line in lines}
    assert times.keys() == JOBS.keys()
    for name, (minute, hour, *_, weekday) in times.items():
        due = JOBS[name].schedule(LONG)
        assert minute in (f"{due.minute}", "*/5" if due.minute % 5 == 0 else "2-59/5"), name
        assert hour in ("*", f"{due.hour}")
        assert weekday in ("*", "0" if due.weekday() == SUNDAY else "")


def test_what_dpn_node_runs_is_what_the_units_run() -> None:
    text = (CONFIG / "systemd" / "dpn-worker@.service").read_text()
    assert set(re.findall(r"dpn-worker@([a-z0-9-]+)", text)) == set(STAGE_WORKERS)
    assert (CONFIG / "systemd" / f"dpn-{SERVE}.service").exists()


def test_every_image_is_pinned_and_every_port_is_on_the_loopback_address() -> None:
    services = yaml.safe_load((CONFIG / "compose.yml").read_text())["services"]
    assert set(services) == {"nsqlookupd", "nsqd", "postgresql"}
    for service in services.values():
        assert re.search(r":v?\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
