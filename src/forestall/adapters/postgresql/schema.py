"""Tables of the PostgreSQL store, in a schema of their own, and the steps from each version to the next.

As in DuckDB, a row of ``raw`` holds every resource of a VM at one instant, a column for each: PostgreSQL pays some 90
bytes for a row and its key, and a resource without a sample (NULL) costs a bit. Values are DOUBLE PRECISION, see
decision 0002. Names of VMs are kept once, as bytes: PostgreSQL's text knows no NUL and no half of a surrogate pair.
``resource`` names those of which there are samples, so that the columns of others are not read.

``rollup_5min`` and ``rollup_1h`` are derived. Whoever appends adds a row to ``pending`` for each hour that changes, in
the same transaction, even where there is one: who rolls up deletes the rows that its snapshot sees, and those of
appends that it does not see stay. So neither waits for the other.

A row of ``archive`` is a VM's hour: offsets of its instants, and an array for each column of ``raw``, which compress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forestall.adapters.sample_rows.columns import RAW_COLUMNS, ROLLUP_COLUMNS, ROLLUPS
from forestall.model.errors import StoreError

if TYPE_CHECKING:
    from forestall.adapters.postgresql.database import Connection, Cursor

SCHEMA = "forestall"
SCHEMA_LOCK, PARTITION_LOCK, MAINTENANCE_LOCK = (0x466F7265 << 32 | number for number in range(3))
"""Keys of advisory locks: ``Fore`` in ASCII, and a number."""

_KEY = "instant bigint NOT NULL, vm integer NOT NULL"
_PARTITIONED = "PRIMARY KEY (instant, vm)) PARTITION BY RANGE (instant)"
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key text PRIMARY KEY, value bigint NOT NULL)",
        "CREATE TABLE vm (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL)",
        "CREATE UNIQUE INDEX vm_name ON vm (sha256(name))",  # a name may be longer than an entry of an index
        "CREATE TABLE resource (name text PRIMARY KEY)",
        "CREATE TABLE pending (hour bigint NOT NULL)",
        f"CREATE TABLE raw ({_KEY}, {', '.join(f'{c} double precision' for c in RAW_COLUMNS)}, {_PARTITIONED}",
        *(
            f"CREATE TABLE rollup_{name} ({_KEY}, "
            + ", ".join(f"{c} {'integer' if c.endswith('_count') else 'double precision'}" for c in ROLLUP_COLUMNS)
            + f", {_PARTITIONED}"
            for name in ROLLUPS
        ),
    ),
    (
        "CREATE TABLE archive (hour bigint NOT NULL, vm integer NOT NULL, offsets smallint[] NOT NULL, "
        + ", ".join(f"{c} double precision[]" for c in RAW_COLUMNS)
        + ", PRIMARY KEY (hour, vm)) PARTITION BY RANGE (hour)",
    ),
)
"""What makes of a database of each version one of the next, from an empty one on."""


def prepare(connection: Connection, where: str) -> None:
    """Bring a database to this version, one step in a transaction; refuse one that is newer.

    Several processes may do so at once: each step is made by one of them.
    """
    while True:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
            version = _version(cursor)
            if version > len(MIGRATIONS):
                newer = f"schema {version}; this one reads up to {len(MIGRATIONS)}"
                raise StoreError(f"{where}: was written by a newer Forestall ({newer})")
            if version == len(MIGRATIONS):
                return
            for change in MIGRATIONS[version]:
                cursor.execute(change)
            cursor.execute("INSERT INTO version VALUES (%s)", [version + 1])


def read_meta(cursor: Cursor, key: str) -> int | None:
    """Value stored under ``key``; None when there is none."""
    row = cursor.execute("SELECT value FROM meta WHERE key = %s", [key]).fetchone()
    return None if row is None else int(row[0])


def write_meta(cursor: Cursor, key: str, value: int) -> None:
    """Set ``key`` to ``value``."""
    cursor.execute(
        "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value", [key, value]
    )


def _version(cursor: Cursor) -> int:
    """Version of the schema, which is made if it is not there: 0."""
    ((there,),) = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{SCHEMA}.version"]).fetchall()
    if not there:
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
        cursor.execute("CREATE TABLE version (number integer PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now())")
    ((version,),) = cursor.execute("SELECT coalesce(max(number), 0) FROM version").fetchall()
    return int(version)
