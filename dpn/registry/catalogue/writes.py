"""What the registry's own clients write, each in one transaction: the rules decide, on records locked for it.

Two that write the same record at once take turns: the second decides on what the first left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dpn.errors import Misconfigured
from dpn.registry.catalogue.kinds import BAGS, DIGESTS, NODES, RESTORES, TRANSFERS, Kind
from dpn.registry.catalogue.known import ALREADY_THERE, NOT_FOUND, NewId, known_bags, known_nodes, random_id
from dpn.registry.catalogue.query import find, find_many
from dpn.registry.catalogue.rows import insert_new, save
from dpn.registry.catalogue.statements import note_copies
from dpn.registry.records import (
    Agreement,
    BagRecord,
    DigestRecord,
    NodeRecord,
    ReplicationRecord,
    StorageRecord,
)
from dpn.registry.rules import Accepted, Caller, CancelReason, Decision, bags, restores, transfers
from dpn.registry.rules.decisions import stamped
from dpn.registry.rules.flags import Course, T
from dpn.registry.settings import NodeSettings, RegistryAccess
from dpn.registry.wire import utc_second


def add_transfer(session: Session, proposed: ReplicationRecord, *, caller: Caller) -> Decision[ReplicationRecord]:
    """Records a new transfer; 409 if its id is taken."""
    if caller.is_local and find(session, TRANSFERS, *proposed.key) is not None:
        return ALREADY_THERE
    bag = find(session, BAGS, proposed.bag)
    decision = transfers.create(proposed, caller=caller, bag=bag, known_nodes=known_nodes(session))
    if isinstance(decision, Accepted) and not insert_new(session, TRANSFERS, decision.record):
        return ALREADY_THERE
    return decision


def put_transfer(
    session: Session,
    replication_id: str,
    proposed: ReplicationRecord,
    *,
    caller: Caller,
    now: datetime,
    copies: int,
    new_id: NewId = random_id,
) -> Decision[ReplicationRecord]:
    """Moves a transfer on, verdict included; a copy that is stored joins the replicating nodes of our bag."""
    current = find(session, TRANSFERS, replication_id, lock=True)
    if current is None:
        return NOT_FOUND
    digest = find(session, DIGESTS, current.bag, current.fixity_algorithm)
    expected = digest.value if digest else None
    second = utc_second(now)
    decision = transfers.update(current, proposed, caller=caller, expected_digest=expected, now=second)
    if isinstance(decision, Accepted) and decision.changed:
        save(session, TRANSFERS, [decision.record])
        if decision.record.from_node == caller.us and transfers.adds_replica(current, decision.record):
            _add_replica(session, decision.record, caller.us, second, copies, new_id)
    return decision


def add_bag(
    session: Session, proposed: BagRecord, *, caller: Caller, copies: int, new_id: NewId = random_id
) -> Decision[BagRecord]:
    """Records a new bag; 409 if its uuid is taken."""
    if caller.is_local and find(session, BAGS, *proposed.key) is not None:
        return ALREADY_THERE
    decision = bags.create_bag(
        proposed,
        caller=caller,
        known_nodes=known_nodes(session),
        known_bags=known_bags(session, (*proposed.rights, *proposed.interpretive)),
        same_version=_same_version(session, proposed),
    )
    if not isinstance(decision, Accepted):
        return decision
    if not insert_new(session, BAGS, decision.record):
        return ALREADY_THERE
    note_copies(
        session, decision.record, us=caller.us, copies=copies, now=decision.record.created_at, new_id=new_id
    )
    return decision


def put_bag(
    session: Session,
    uuid: str,
    proposed: BagRecord,
    *,
    caller: Caller,
    now: datetime,
    copies: int,
    new_id: NewId = random_id,
) -> Decision[BagRecord]:
    """Changes what may change of a bag's entry."""
    current = find(session, BAGS, uuid, lock=True)
    if current is None:
        return NOT_FOUND
    decision = bags.update_bag(
        current,
        proposed,
        caller=caller,
        known_nodes=known_nodes(session),
        known_bags=known_bags(session, (*proposed.rights, *proposed.interpretive)),
        same_version=_same_version(session, proposed),
        now=utc_second(now),
    )
    if isinstance(decision, Accepted) and decision.changed:
        save(session, BAGS, [decision.record])
        note_copies(session, decision.record, us=caller.us, copies=copies, now=utc_second(now), new_id=new_id)
    return decision


def add_digest(
    session: Session, bag: str, proposed: DigestRecord, *, caller: Caller, now: datetime
) -> Decision[DigestRecord]:
    """Records a bag's digest, and gives the transfers that waited for it their verdict; 409 if it has one."""
    if find(session, BAGS, bag) is None:
        return NOT_FOUND
    decision = bags.create_digest(proposed, caller=caller, bag=bag, known_nodes=known_nodes(session))
    if not isinstance(decision, Accepted):
        return decision
    if not insert_new(session, DIGESTS, decision.record):
        return ALREADY_THERE
    _judge_waiting(session, decision.record, caller.us, utc_second(now))
    return decision


def add_node(session: Session, proposed: NodeRecord, *, caller: Caller) -> Decision[NodeRecord]:
    """Records a new node; 409 if its namespace is taken."""
    decision = bags.create_node(proposed, caller=caller)
    if isinstance(decision, Accepted) and not insert_new(session, NODES, decision.record):
        return ALREADY_THERE
    return decision


def put_node(
    session: Session, namespace: str, proposed: NodeRecord, *, caller: Caller, now: datetime
) -> Decision[NodeRecord]:
    """Changes what may change of a node's entry."""
    current = find(session, NODES, namespace, lock=True)
    if current is None:
        return NOT_FOUND
    decision = bags.update_node(current, proposed, caller=caller, now=utc_second(now))
    if isinstance(decision, Accepted) and decision.changed:
        save(session, NODES, [decision.record])
    return decision


def ensure_nodes(
    session: Session, us: NodeSettings, peers: Mapping[str, RegistryAccess], *, now: datetime
) -> None:
    """Makes sure that we and every peer of our settings have an entry, reachable where the settings say."""
    second = utc_second(now)
    names = tuple(sorted(peers))
    roots = {us.namespace: us.address()} | {name: peer.api_root for name, peer in peers.items()}
    present = find_many(session, NODES, [(name,) for name in roots], lock=True)
    wanted = []
    for name, api_root in roots.items():
        node = present.get((name,)) or _new_node(name, api_root, second)
        if name == us.namespace:
            storage = StorageRecord(region=us.storage_region, type=us.storage_type)
            node = node.change(name=us.name or us.namespace, storage=storage)
            if (name,) not in present:
                node = node.change(**dict.fromkeys(Agreement, names))
        node = node.change(api_root=api_root)
        if node != present.get((name,)):
            wanted.append(node.change(updated_at=second))
    save(session, NODES, wanted)


def agree(session: Session, us: str, peer: str, agreements: Collection[str], *, now: datetime) -> None:
    """Names `peer` in these agreements of our own record, and in none of the others.

    Raises Misconfigured if we have no record of our own yet.
    """
    ours = find(session, NODES, us, lock=True)
    if ours is None:
        raise Misconfigured(f"our registry has no record of {us}: run `dpn db upgrade`")
    lists = {name: [one for one in getattr(ours, name) if one != peer] for name in Agreement}
    for name in agreements:
        lists[Agreement(name)].append(peer)
    changed = {name: sorted(nodes) for name, nodes in lists.items() if {*nodes} != {*getattr(ours, name)}}
    if changed:
        put_node(session, us, ours.change(**changed), caller=Caller(us, us), now=now)


def give_up_with(session: Session, us: str, peer: str, *, detail: str, now: datetime) -> int:
    """Cancels what is open of our own transfers with `peer`: of bags that it was to keep, or that we want from it.
    Returns how many that were."""
    given = _give_up(session, TRANSFERS, transfers.COURSE, us, peer, detail, now)
    return given + _give_up(session, RESTORES, restores.COURSE, us, peer, detail, now)


def _give_up(
    session: Session, kind: Kind[T], course: Course[T], us: str, peer: str, detail: str, now: datetime
) -> int:
    columns = kind.table.c
    is_open = ~columns[course.done] & ~columns.cancelled
    ours = (columns[course.owner] == us) & (columns[course.writer] == peer)
    found = session.execute(select(kind.table).where(ours, is_open).order_by(*kind.key).with_for_update())
    before = [kind.read(row) for row in found.mappings().all()]
    second = utc_second(now)
    after = [stamped(one, course.cancelled(one, CancelReason.OTHER, detail), second).record for one in before]
    save(session, kind, after)
    return len(after)


def _new_node(namespace: str, api_root: str, now: datetime) -> NodeRecord:
    return NodeRecord(
        name=namespace,
        namespace=namespace,
        api_root=api_root,
        protocols=tuple(sorted(transfers.SUPPORTED_PROTOCOLS)),
        fixity_algorithms=tuple(sorted(transfers.SUPPORTED_ALGORITHMS)),
        created_at=now,
        updated_at=now,
    )


def _same_version(session: Session, bag: BagRecord) -> str | None:
    """Another bag of the same admin node that has its place in its family."""
    columns = BAGS.table.c
    place = (columns.first_version_uuid == bag.first_version_uuid) & (columns.version == bag.version)
    others = place & (columns.admin_node == bag.admin_node) & (columns.uuid != bag.uuid)
    return session.scalar(select(columns.uuid).where(others))


def _add_replica(
    session: Session, transfer: ReplicationRecord, us: str, now: datetime, copies: int, new_id: NewId
) -> None:
    """Only to a bag that we administer: the entries of others are theirs to change, and we read them."""
    bag = find(session, BAGS, transfer.bag, lock=True)
    if bag is None or bag.admin_node != us:
        return
    changed = bags.with_replica(bag, transfer.to_node, now)
    if changed.changed:
        save(session, BAGS, [changed.record])
        note_copies(session, changed.record, us=us, copies=copies, now=now, new_id=new_id)


def _judge_waiting(session: Session, digest: DigestRecord, us: str, now: datetime) -> None:
    """All open transfers of the bag are locked, not only those with a value: one may just be getting it."""
    table = TRANSFERS.table
    is_open = (table.c.from_node == us) & ~table.c.stored & ~table.c.cancelled
    waiting = select(table).where(table.c.bag == digest.bag, table.c.fixity_algorithm == digest.algorithm, is_open)
    rows = session.execute(waiting.order_by(*TRANSFERS.key).with_for_update()).mappings().all()
    before = [TRANSFERS.read(row) for row in rows]
    judged = [stamped(record, transfers.judge(record, digest.value), now) for record in before]
    save(session, TRANSFERS, [decision.record for decision in judged if decision.changed])
