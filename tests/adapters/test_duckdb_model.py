"""The DuckDB store against the one in memory: whatever is done, both say the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from store_machine import STEP, StoreMachine

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.testing.store import SHORT


class Stores(StoreMachine):
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="forestall-store-"))
        super().__init__()

    def opened(self) -> DuckdbStore:
        return DuckdbStore(self.folder / "s.duckdb", step_seconds=STEP, retention=SHORT)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=8, stateful_step_count=6)
