"""What can go wrong while bags travel, one function a fault; which comes when is drawn from a seed."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dpn.clock import SystemClock
from dpn.supervision.running import Running
from dpn.work.items import NotAllowed, retry_item
from models.work import Status, Task
from tests.faults.world import LEASE_SECONDS, WORKERS, World
from tools.network.backends import BrokerKind, DatabaseKind, StoreKind
from workers.pipelines import PIPELINES

Fault = Callable[[World, random.Random], None]

FILLER = ".fills-the-disk"


def faults_of(world: World, *, disk_is_small: bool) -> list[Fault]:
    """All that can be done to such a world; what is listed twice happens twice as often."""
    faults: list[Fault] = [
        kill_worker,
        kill_worker,
        kill_worker,
        pause_worker,
        pause_worker,
        kill_server_of_the_owner,
        kill_rsyncd_of_the_owner,
        kill_cron_job,
        kill_cron_job,
        cancel_an_item,
        retry_an_item,
    ]
    if world.kinds.broker is BrokerKind.NSQ:
        faults += [kill_nsqd, wipe_nsqd, kill_nsqlookupd]
    if world.kinds.database is DatabaseKind.POSTGRESQL:
        faults.append(restart_postgresql)
    if world.kinds.store is StoreKind.S3:
        faults += [restart_s3, restart_s3]
    if disk_is_small:
        faults.append(fill_the_staging_volume)
    return faults


def disturb(world: World, rng: random.Random, *, count: int, disk_is_small: bool) -> None:
    """So many faults in a row, with short rests; ends early once nothing is under way any more."""
    faults = faults_of(world, disk_is_small=disk_is_small)
    for _ in range(count):
        world.rest(rng.uniform(0.0, 0.6))
        items = world.items()
        if items and all(Status(item.status).is_final for item in items) and len(items) >= len(world.requests):
            return
        fault = rng.choice(faults)
        world.note(f"fault: {fault.__name__}")
        fault(world, rng)


def kill_worker(world: World, rng: random.Random) -> None:
    worker = rng.choice(WORKERS)
    if world.south.process(worker):
        world.note(f"kill -9 {worker}")
        world.south.kill(worker, signal.SIGKILL)


def pause_worker(world: World, rng: random.Random) -> None:
    """For less than a lease, or for longer: then it wakes up and others have its items."""
    worker = rng.choice(WORKERS)
    running = world.south.process(worker)
    if running is None:
        return
    seconds = rng.uniform(0.2, 1.4) * LEASE_SECONDS
    world.note(f"SIGSTOP {worker} for {seconds:.1f} s")
    running.send(signal.SIGSTOP)
    world.rest(seconds)
    running.send(signal.SIGCONT)


def kill_server_of_the_owner(world: World, rng: random.Random) -> None:
    if world.north.process("serve"):
        world.north.kill("serve", signal.SIGKILL)


def kill_rsyncd_of_the_owner(world: World, rng: random.Random) -> None:
    if world.north.process("rsyncd"):
        world.north.kill("rsyncd", signal.SIGKILL)


def kill_cron_job(world: World, rng: random.Random) -> None:
    """One more dpn_sync or dpn_queue, beside cron's, that does not come to its end."""
    name = rng.choice(("sync", "queue"))
    job = Running(world.south.program(f"killed_{name}", name))
    world.rest(rng.uniform(0.3, 1.5))
    job.kill()


def cancel_an_item(world: World, rng: random.Random) -> None:
    unfinished = [item for item in world.items() if item.task == Task.REPLICATION and _is_open(item.status)]
    if not unfinished or len(world.cancelled) >= 3:
        return
    item = rng.choice(unfinished)
    done = world.south.run("item", "cancel", str(item.id), "--reason", "somebody wished it")
    world.note(f"cancel item {item.id} at {item.stage}: {done.returncode} {done.stdout.strip()[-150:]}")
    if done.returncode == 0:
        world.cancelled.add(item.identifier)


def retry_an_item(world: World, rng: random.Random) -> None:
    if unfinished := [item for item in world.items() if _is_open(item.status)]:
        item = rng.choice(unfinished)
        done = world.south.run("item", "retry", str(item.id))
        world.note(f"retry item {item.id} at {item.stage}: {done.returncode}")


def kill_nsqd(world: World, rng: random.Random) -> None:
    _down_for_a_while(world, "nsqd", rng)


def wipe_nsqd(world: World, rng: random.Random) -> None:
    _down_for_a_while(world, "nsqd", rng, wipe=True)


def kill_nsqlookupd(world: World, rng: random.Random) -> None:
    _down_for_a_while(world, "nsqlookupd", rng)


def restart_postgresql(world: World, rng: random.Random) -> None:
    """A fast shutdown, which breaks every connection, or an immediate one, after which it recovers."""
    _down_for_a_while(world, "postgresql", rng, rng.choice((signal.SIGINT, signal.SIGQUIT)))


def restart_s3(world: World, rng: random.Random) -> None:
    _down_for_a_while(world, "s3", rng)


def fill_the_staging_volume(world: World, rng: random.Random) -> None:
    """Somebody else writes the disk full, and makes room again; an operator has what waits for room go on."""
    filler = world.south.place.volume / FILLER
    _fill(filler)
    world.rest(rng.uniform(1.0, 4.0))
    filler.unlink()
    retry_what_waits_for_room(world)


def retry_what_waits_for_room(world: World) -> None:
    """What an operator does who has made room and will not wait until it is tried again by itself."""
    waiting = [item.id for item in world.items() if item.status == Status.PENDING and _waits_for_room(item.note)]
    world.note(f"items that waited for room: {waiting}")
    for item_id in waiting:
        with suppress(NotAllowed), world.south.sessions.begin() as session:
            retry_item(session, item_id, operator="chaos", pipelines=PIPELINES, clock=SystemClock())


def _waits_for_room(note: str) -> bool:
    return "staging volume" in note or "is full" in note


def _down_for_a_while(
    world: World, server: str, rng: random.Random, number: signal.Signals = signal.SIGKILL, *, wipe: bool = False
) -> None:
    world.down(server, number, wipe=wipe)
    world.rest(rng.uniform(0.0, 3.0))
    world.up(server)


def _fill(filler: Path) -> None:
    descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY)
    try:
        chunk = b"\0" * 1_000_000
        while True:
            os.write(descriptor, chunk)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


def _is_open(status: str) -> bool:
    return not Status(status).is_final
