"""The behaviour store of a configuration: a DuckDB file, or a PostgreSQL database."""

from __future__ import annotations

from forestall.bootstrap.live import STORE
from forestall.model.errors import WrongUse
from forestall.ports.store import BehaviourStore
from forestall.service.configuration import Configuration


def store_of(configuration: Configuration, step_seconds: int | None = None) -> BehaviourStore:
    """Open the store; it is made if it is not there.

    Parameters
    ----------
    configuration
        Says which.
    step_seconds
        Sampling step; None: that of the store.

    Raises
    ------
    StoreError
        It cannot be opened, or has another sampling step.
    WrongUse
        What speaks to PostgreSQL is not installed.
    """
    if not configuration.store.url:
        from forestall.adapters.duckdb.store import DuckdbStore

        return DuckdbStore(configuration.state_folder / STORE, step_seconds=step_seconds)
    try:
        from forestall.adapters.postgresql.store import PostgresqlStore
    except ImportError as error:
        raise WrongUse("[store] url needs psycopg: pip install 'forestall[postgresql]'") from error
    return PostgresqlStore(configuration.store.url, step_seconds=step_seconds)
