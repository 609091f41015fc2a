"""Tables of the PostgreSQL store, in a schema of their own, and the steps from each version to the next.

As in DuckDB, a row of ``raw`` holds every resource of a VM at one instant, a column for each: PostgreSQL pays some 90
bytes for a row and its key, and a resource without a sample (NULL) costs a bit. Values are DOUBLE PRECISION, see
decision 0002. Names of VMs are kept once, as bytes: PostgreSQL's text knows no NUL and no half of a surrogate pair.
``resource`` names those of which there are samples, so that the columns of others are not read.

``rollup_5min`` and ``rollup_1h`` are derived. Whoever appends adds a row to ``pending`` for each hour that changes, in
the same transaction, even where there is one: who rolls up deletes the rows that its snapshot sees, and those of
appends that it does not see stay. So neither waits for the other.

A row of ``archive`` is a VM's hour: offsets of its instants, and an array for each column of ``raw``, which compress.
``packed`` notes the hours of which the archive has every sample, but for those of which there is a row of ``pending``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forestall.model.errors import StoreError

if TYPE_CHECKING:
    from forestall.adapters.postgresql.database import Connection, Cursor

SCHEMA = "forestall"
SCHEMA_LOCK, PARTITION_LOCK, MAINTENANCE_LOCK = (0x466F7265 << 32 | number for number in range(3))
"""Keys of advisory locks: ``Fore`` in ASCII, and a number."""

_KEY = "instant bigint NOT NULL, vm integer NOT NULL"
_PARTITIONED = "PRIMARY KEY (instant, vm)) PARTITION BY RANGE (instant)"
_ROLLUP = """
    cpu_cores double precision, cpu_cores_max double precision, cpu_cores_count integer,
    cpu_limit_cores double precision,
    mem_bytes double precision, mem_bytes_max double precision, mem_bytes_count integer,
    mem_limit_bytes double precision,
    disk_read_bytes_per_s double precision, disk_read_bytes_per_s_max double precision,
    disk_read_bytes_per_s_count integer, disk_read_limit_bytes_per_s double precision,
    disk_write_bytes_per_s double precision, disk_write_bytes_per_s_max double precision,
    disk_write_bytes_per_s_count integer, disk_write_limit_bytes_per_s double precision,
    net_rx_bytes_per_s double precision, net_rx_bytes_per_s_max double precision,
    net_rx_bytes_per_s_count integer, net_rx_limit_bytes_per_s double precision,
    net_tx_bytes_per_s double precision, net_tx_bytes_per_s_max double precision,
    net_tx_bytes_per_s_count integer, net_tx_limit_bytes_per_s double precision
"""
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key text PRIMARY KEY, value bigint NOT NULL)",
        "CREATE TABLE vm (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL)",
        "CREATE UNIQUE INDEX vm_name ON vm (sha256(name))",  # a name may be longer than an entry of an index
        "CREATE TABLE resource (name text PRIMARY KEY)",
        "CREATE TABLE pending (hour bigint NOT NULL)",
        f"""CREATE TABLE raw ({_KEY},
            cpu_cores double precision, cpu_limit_cores double precision,
            mem_bytes double precision, mem_limit_bytes double precision,
            disk_read_bytes_per_s double precision, disk_read_limit_bytes_per_s double precision,
            disk_write_bytes_per_s double precision, disk_write_limit_bytes_per_s double precision,
            net_rx_bytes_per_s double precision, net_rx_limit_bytes_per_s double precision,
            net_tx_bytes_per_s double precision, net_tx_limit_bytes_per_s double precision,
            {_PARTITIONED}""",
        f"CREATE TABLE rollup_5min ({_KEY}, {_ROLLUP}, {_PARTITIONED}",
        f"CREATE TABLE rollup_1h ({_KEY}, {_ROLLUP}, {_PARTITIONED}",
    ),
    (
        """CREATE TABLE archive (hour bigint NOT NULL, vm integer NOT NULL, offsets smallint[] NOT NULL,
            cpu_cores double precision[], cpu_limit_cores double precision[],
            mem_bytes double precision[], mem_limit_bytes double precision[],
            disk_read_bytes_per_s double precision[], disk_read_limit_bytes_per_s double precision[],
            disk_write_bytes_per_s double precision[], disk_write_limit_bytes_per_s double precision[],
            net_rx_bytes_per_s double precision[], net_rx_limit_bytes_per_s double precision[],
            net_tx_bytes_per_s double precision[], net_tx_limit_bytes_per_s double precision[],
            PRIMARY KEY (hour, vm)) PARTITION BY RANGE (hour)""",
    ),
    ("CREATE TABLE packed (hour bigint PRIMARY KEY)",),
)
"""What makes of a database of each version one of the next, from an empty one on; never changed, only added to."""


@dataclass(frozen=True)
class State:
    """What a database is now; who uses it looks at that in each transaction, for others may change it.

    Attributes
    ----------
    version
        That of its schema; 0: it has none.
    step_seconds
        Its sampling step; None: nothing was stored yet.
    identity
        Another one after the schema was dropped and made or restored, and after a restart or a failover.
    """

    version: int = 0
    step_seconds: int | None = None
    identity: str = ""


_STATE = """
    SELECT coalesce((SELECT max(number) FROM version), 0), (SELECT value FROM meta WHERE key = 'step_seconds'),
        concat_ws(' ', (SELECT oid FROM pg_database WHERE datname = current_database()), 'vm'::regclass::oid,
            pg_postmaster_start_time())
"""


def prepare(connection: Connection, where: str) -> None:
    """Bring a database to this version, one step in a transaction; refuse one that is newer.

    Several processes may do so at once: each step is made by one of them.
    """
    while True:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '15s'")  # others may be at it
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
            version = _version(cursor)
            _refuse_newer(version, where)
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


def fix_step(cursor: Cursor, step_seconds: int) -> None:
    """Set the sampling step, if nobody has."""
    cursor.execute("INSERT INTO meta VALUES ('step_seconds', %s) ON CONFLICT (key) DO NOTHING", [step_seconds])


def state(cursor: Cursor, where: str, step_seconds: int | None = None) -> State:
    """What a database with a schema is now; refuse one that is newer, or of another sampling step."""
    (found,) = cursor.execute(_STATE).fetchall()
    _refuse_newer(found[0], where)
    state = State(*found)
    if step_seconds is not None and state.step_seconds not in (None, step_seconds):
        raise StoreError(f"{where}: is sampled every {state.step_seconds} s, not every {step_seconds} s")
    return state


def is_there(cursor: Cursor) -> bool:
    """Whether the database has the schema, at any version."""
    ((there,),) = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{SCHEMA}.version"]).fetchall()
    return bool(there)


def _refuse_newer(version: int, where: str) -> None:
    if version > len(MIGRATIONS):
        newer = f"schema {version}; this one reads up to {len(MIGRATIONS)}"
        raise StoreError(f"{where}: was written by a newer Forestall ({newer})")


def _version(cursor: Cursor) -> int:
    """Version of the schema, which is made if it is not there: 0. An administrator may have made it, empty."""
    if not is_there(cursor):
        ((missing,),) = cursor.execute("SELECT to_regnamespace(%s) IS NULL", [SCHEMA]).fetchall()
        if missing:
            cursor.execute(f"CREATE SCHEMA {SCHEMA}")
        cursor.execute("CREATE TABLE version (number integer PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now())")
    ((version,),) = cursor.execute("SELECT coalesce(max(number), 0) FROM version").fetchall()
    return int(version)
