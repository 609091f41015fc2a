"""The PostgreSQL store against the one in memory: whatever is done, both say the same."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from postgresql_server import running_server
from store_machine import STEP, StoreMachine

from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.testing.store import SHORT


def test_whatever_is_done_both_say_the_same() -> None:
    with running_server() as server:

        class Stores(StoreMachine):
            def __init__(self) -> None:
                self.url = server.new_database()
                super().__init__()

            def opened(self) -> PostgresqlStore:
                return PostgresqlStore(self.url, step_seconds=STEP, retention=SHORT)

        run_state_machine_as_test(Stores, settings=settings(max_examples=8, stateful_step_count=6))
