"""The declarative base, the column types and the database's own clock that all rows share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Float, Integer, MetaData, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql import expression
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, always timezone-aware UTC in Python; refuses naive datetimes."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: every instant is timezone-aware UTC")
        value = value.astimezone(UTC)
        # SQLite has no time zones: it stores the UTC wall time, whose text sorts as time does.
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_now(expression.FunctionElement[datetime]):  # noqa: N801  (reads as the SQL function it is)
    """The database's clock plus `after_seconds`, read when the statement begins, not when its transaction began.

    The same moment for all of the statement, so that an index bounds what is compared with it.
    """

    type = UtcDateTime()
    inherit_cache = True
    name = "database_now"

    def __init__(self, after_seconds: float = 0.0) -> None:
        super().__init__(expression.literal(float(after_seconds), Float()))


@compiles(database_now, "postgresql")
def _postgresql_now(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    # Six digits after the point, as SQLAlchemy writes datetimes: text comparison must order instants.
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))"


class DamagedJson(str):
    """What SQLite held where JSON was written: whoever reads it decides; it ends no query of other rows."""

    __slots__ = ()


Uuid = String(36)
"""Lower-case hyphenated text: what travels on the wire and stands in file names."""

Namespace = String(64)

RowId = BigInteger().with_variant(Integer, "sqlite")
"""Numbers that the database gives; SQLite counts only its own INTEGER up, which has 64 bits there too."""


class Base(DeclarativeBase):
    """Base of every row; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
