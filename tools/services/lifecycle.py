"""Starts, asks and stops services: nothing is started twice, and nothing is stopped that we did not start."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dpn.supervision.process_id import ProcessId
from tools.services import ports, process
from tools.services.folder import Folder, process_of
from tools.services.moto import Glacier, Sqs
from tools.services.nsq import Nsqd, Nsqlookupd
from tools.services.postgresql import Postgresql
from tools.services.rabbitmq import Epmd, Rabbitmq
from tools.services.rsyncd import Rsyncd
from tools.services.s3 import S3
from tools.services.service import Home, NotReady, Service, StartFailed
from tools.services.sshd import Sshd
from tools.services.webdav import Webdav

SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Nsqlookupd(), Nsqd(), Postgresql(), S3(), Glacier(), Rsyncd(), Sshd(),
        Epmd(), Rabbitmq(), Sqs(), Webdav(),
    )
}  # fmt: skip
"""All services, each after those that it needs."""

READY_SECONDS = 90.0
"""How long a service may take to answer: importing moto on a busy machine is the slowest."""
POLL_SECONDS = 0.05
PORT_ATTEMPTS = 5
LOG_TAIL_BYTES = 3000


def up(folder: Folder, names: Sequence[str], flags: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Starts those of `names`, and what they need, that do not run and answer; says which it started.

    `flags` replace those that a service had before. Raises StartFailed, MissingProgram.
    """
    started = []
    for name in with_needs(names):
        service = SERVICES[name]
        home = folder.home(name)
        wanted = dict(flags.get(name, home.flags))
        if state(folder, name) == "runs":
            if wanted != home.flags:
                raise StartFailed(f"{name} runs with other flags: stop it first (bin/services down {name})")
            continue
        _stop(folder, name)
        home.flags = wanted
        _start(folder, service, home)
        started.append(name)
    return started


def down(folder: Folder, names: Sequence[str], *, wipe: bool) -> list[str]:
    """Stops those of `names` that were started here; says which. `wipe` removes their data as well."""
    entries = folder.entries()
    stopped = []
    for name in [name for name in reversed(SERVICES) if name in names]:
        if name in entries:
            _stop(folder, name)
            stopped.append(name)
        if wipe:
            folder.wipe(name)
    return stopped


def state(folder: Folder, name: str) -> str:
    """`runs`, `died`, `stopped`, or what is wrong with its answer."""
    entry = folder.entries().get(name)
    if entry is None:
        return "stopped"
    if not process_of(entry).alive():
        return "died"
    try:
        SERVICES[name].check(entry)
    except NotReady as error:
        return f"does not answer: {error}"
    return "runs"


def with_needs(names: Sequence[str]) -> list[str]:
    """`names` and all that they need, in the order in which they are started."""
    wanted = set(names).union(*(SERVICES[name].needs for name in names))
    return [name for name in SERVICES if name in wanted]


def _start(folder: Folder, service: Service, home: Home) -> None:
    """Starts one service on the ports that it had, or on others if somebody took them."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        if set(home.ports) != set(service.port_names) or not _all_free(home):
            home.ports = dict(zip(service.port_names, ports.free_ports(len(service.port_names)), strict=True))
        running = _launch(folder, service, home)
        try:
            _await_ready(service, home, running)
        except BaseException as error:
            process.stop(running)
            folder.remove_entry(home.name)
            if isinstance(error, StartFailed) and attempt < PORT_ATTEMPTS and not _all_free(home):
                continue
            raise
        return


def _launch(folder: Folder, service: Service, home: Home) -> ProcessId:
    launch = service.prepare(home)
    try:
        running = process.start(launch, home.path / "log")
    except OSError as error:
        raise StartFailed(f"{home.name}: {launch.argv[0]}: {error.strerror}") from error
    finally:
        for descriptor in launch.keep_open:
            os.close(descriptor)
    folder.keep(home)
    folder.set_entry(home.name, service.entry(home), running)
    return running


def _await_ready(service: Service, home: Home, running: ProcessId) -> None:
    """Returns when it is our process that listens, and it answers as it should. Raises StartFailed."""
    deadline = time.monotonic() + READY_SECONDS
    entry: dict[str, Any] = service.entry(home)
    problem = "it does not listen"
    while running.alive():
        members = process.family(running) if service.listens_in_a_child else [running]
        if all(any(ports.listens(one.pid, port) for one in members) for port in home.ports.values()):
            try:
                service.check(entry)
            except NotReady as error:
                problem = str(error)
            else:
                return
        if time.monotonic() > deadline:
            raise StartFailed(f"{home.name}: not ready after {READY_SECONDS:.0f} s: {problem}{_log_tail(home)}")
        time.sleep(POLL_SECONDS)
    raise StartFailed(f"{home.name}: it ended while starting{_log_tail(home)}")


def _stop(folder: Folder, name: str) -> None:
    entry = folder.entries().get(name)
    if entry is not None:
        process.stop(process_of(entry), SERVICES[name].stop_signal)
        folder.remove_entry(name)


def _all_free(home: Home) -> bool:
    return all(ports.is_free(port) for port in home.ports.values())


def _log_tail(home: Home) -> str:
    path = home.path / "log"
    with path.open("rb") as log:
        log.seek(-min(LOG_TAIL_BYTES, path.stat().st_size), os.SEEK_END)
        tail = log.read().decode(errors="replace").strip()
    return f"\n--- end of {path}:\n{tail}" if tail else f" (and wrote nothing to {path})"
