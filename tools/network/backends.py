"""What a network stands on: which broker, database and store, and the settings that make a node use them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dpn.cancellation import Cancellation
from tools.network.place import Place
from tools.network.services import FOLDER, StartedServices
from tools.network.toml_text import Table

GLACIER_CLASS = "GLACIER"
RESTORED_DAYS = 1


class BrokerKind(StrEnum):
    EMBEDDED = "embedded"
    NSQ = "nsq"


class DatabaseKind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class StoreKind(StrEnum):
    FILE = "file"
    S3 = "s3"
    GLACIER = "glacier"


@dataclass(frozen=True)
class Kinds:
    """The choice; the default needs no server at all."""

    broker: BrokerKind = BrokerKind.EMBEDDED
    database: DatabaseKind = DatabaseKind.SQLITE
    store: StoreKind = StoreKind.FILE

    @property
    def shared_services(self) -> tuple[str, ...]:
        """Servers that all nodes use, each its own database or bucket."""
        names = []
        if self.database is DatabaseKind.POSTGRESQL:
            names.append("postgresql")
        if self.store is not StoreKind.FILE:
            names.append(self.store.value)
        return tuple(names)

    @property
    def own_services(self) -> tuple[str, ...]:
        """Servers that every node has for itself: two nodes on one nsqd would take each other's messages."""
        return ("nsqd",) if self.broker is BrokerKind.NSQ else ()


class Backends:
    """Starts what the nodes of a network in `directory` stand on."""

    def __init__(self, directory: Path, kinds: Kinds) -> None:
        self._kinds = kinds
        self._shared = StartedServices(directory / FOLDER)
        self._own: dict[str, StartedServices] = {}
        self._entries: dict[str, dict[str, Any]] = {}

    @property
    def needs_servers(self) -> bool:
        return bool(self._kinds.shared_services or self._kinds.own_services)

    def start(self, places: Iterable[Place], cancellation: Cancellation) -> None:
        """Starts the servers; makes a database and a bucket for every node. Raises Broken, Unusable."""
        places = list(places)
        if self._kinds.shared_services:
            self._entries = self._shared.up(*self._kinds.shared_services, cancellation=cancellation)
        for place in places:
            if self._kinds.own_services:
                self._own[place.name] = StartedServices(place.services)
                entries = self._own[place.name].up("nsqd", cancellation=cancellation)
                self._entries[f"nsqd of {place.name}"] = entries["nsqd"]
        if self._kinds.database is DatabaseKind.POSTGRESQL:
            _make_databases(self._entries["postgresql"], [_database_name(place) for place in places])
        if self._kinds.store is not StoreKind.FILE:
            _make_buckets(self._entries[self._kinds.store.value], [_bucket_name(place) for place in places])

    def stop(self) -> None:
        """Stops the servers; their data stays. Raises Broken."""
        for services in (*self._own.values(), self._shared):
            services.down()

    def services(self, name: str) -> StartedServices:
        """The servers that only node `name` has."""
        return self._own[name]

    @property
    def shared(self) -> StartedServices:
        """The servers of all nodes."""
        return self._shared

    def how_to_bring_back(self) -> list[str]:
        """The commands that start what was stopped again, on the same ports and with its data (not Glacier's)."""
        shared = [(self._shared, self._kinds.shared_services)] if self._kinds.shared_services else []
        own = [(services, self._kinds.own_services) for services in self._own.values()]
        return [
            f"bin/services up --dir {shlex.quote(str(services.directory))} {' '.join(names)}"
            for services, names in (*shared, *own)
        ]

    def database_url(self, place: Place) -> str:
        """The node's database, password included."""
        if self._kinds.database is DatabaseKind.SQLITE:
            return f"sqlite:///{place.database_file}"
        url: str = self._entries["postgresql"]["url"]
        return f"{url.rpartition('/')[0]}/{_database_name(place)}"

    def settings(self, place: Place) -> Table:
        """The tables database, broker and store of a node; writes the secrets that they name."""
        return {"database": self._database(place), "broker": self._broker(place), "store": self._store(place)}

    def ask_for_restore(self, place: Place, key: str) -> None:
        """Asks the node's Glacier for an object, which can be read some time later."""
        client = _s3_client(self._entries[self._kinds.store.value])
        client.restore_object(Bucket=_bucket_name(place), Key=key, RestoreRequest={"Days": RESTORED_DAYS})

    def file_of(self, place: Place, key: str) -> Path | None:
        """Where the bytes of a node's object lie on a disk of this machine; None where they lie in a memory."""
        match self._kinds.store:
            case StoreKind.FILE:
                return place.store / key
            case StoreKind.S3:
                return Path(self._entries[StoreKind.S3.value]["data"]) / _bucket_name(place) / key
            case StoreKind.GLACIER:
                return None

    def delete_object(self, place: Place, key: str) -> None:
        """Deletes an object in the node's bucket."""
        client = _s3_client(self._entries[self._kinds.store.value])
        client.delete_object(Bucket=_bucket_name(place), Key=key)

    def overwrite_object(self, place: Place, key: str, content: Path) -> None:
        """Puts other bytes in the place of an object in the node's Glacier, with what is said beside it."""
        client, where = (
            _s3_client(self._entries[self._kinds.store.value]),
            {"Bucket": _bucket_name(place), "Key": key},
        )
        metadata = client.head_object(**where)["Metadata"]
        client.upload_file(
            str(content), *where.values(), ExtraArgs={"Metadata": metadata, "StorageClass": GLACIER_CLASS}
        )

    def _database(self, place: Place) -> Table:
        if self._kinds.database is DatabaseKind.SQLITE:
            return {"url": self.database_url(place)}
        return {"url_file": place.write_secret("database-url", self.database_url(place))}

    def _broker(self, place: Place) -> Table:
        if self._kinds.broker is BrokerKind.EMBEDDED:
            return {"kind": "embedded"}
        entry = self._entries[f"nsqd of {place.name}"]
        return {
            "kind": "nsq",
            "nsq": {
                "nsqd_http_addresses": [entry["http"]],
                "nsqlookupd_http_addresses": [entry["nsqlookupd_http"]],
            },
        }

    def _store(self, place: Place) -> Table:
        if self._kinds.store is StoreKind.FILE:
            return {"url": place.store.as_uri()}
        entry = self._entries[self._kinds.store.value]
        store: Table = {
            "url": f"s3://{_bucket_name(place)}",
            "endpoint_url": entry["endpoint"],
            "region": entry["region"],
            "access_key_id": entry["access_key"],
            "secret_access_key_file": place.write_secret("s3-secret-key", entry["secret_key"]),
        }
        return store | ({"storage_class": GLACIER_CLASS} if self._kinds.store is StoreKind.GLACIER else {})


def _database_name(place: Place) -> str:
    return f"dpn_{place.name}"


def _bucket_name(place: Place) -> str:
    return f"dpn-{place.name}"


def _make_databases(entry: dict[str, Any], names: list[str]) -> None:
    import psycopg  # only here: a demo on SQLite needs no driver
    from psycopg import sql

    with psycopg.connect(
        host=entry["host"],
        port=entry["port"],
        user=entry["user"],
        password=entry["password"],
        dbname=entry["database"],
        autocommit=True,
    ) as connection:
        for name in names:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _make_buckets(entry: dict[str, Any], names: list[str]) -> None:
    client = _s3_client(entry)
    for name in names:
        client.create_bucket(Bucket=name)


def _s3_client(entry: dict[str, Any]) -> Any:
    import boto3  # only here: it takes a quarter of a second to load

    return boto3.client(
        "s3",
        endpoint_url=entry["endpoint"],
        aws_access_key_id=entry["access_key"],
        aws_secret_access_key=entry["secret_key"],
        region_name=entry["region"],
    )
