"""Where the vectors of a host go: several parts make them at the same time, and none is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forestall.adapters.clock.system import SystemClock
from forestall.bootstrap.vectors import vectors_of
from forestall.ports.vectors import VectorBatch, VectorKind
from forestall.service.configuration import Configuration


def test_several_parts_keep_vectors_at_the_same_time(tmp_path: Path) -> None:
    notes: list[str] = []
    parts: list[Any] = []
    keep, store = vectors_of(replace(Configuration(), state_folder=tmp_path), SystemClock(), notes.append, parts)
    assert store is not None
    with ExitStack() as closing:
        for part in parts:
            closing.callback(part.close)

        def add(part: int) -> None:
            for n in range(15):
                at = np.array([1_000_000 + n])
                keep(VectorBatch(VectorKind.PROFILE, ("x",), (f"vm-{part}",), at, np.ones((1, 1), np.float32)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        assert store.count() == 60
    assert notes == []
