"""What VMs took before this process began is read from the log of accesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forestall.bootstrap.access_log import first_touches_of, open_access_log
from forestall.ports.access_log import BLOCK, MEMORY, PAGE, UNIT_BYTES, Accesses, Source
from forestall.service.configuration import Configuration
from forestall.staging.ledger import Group


def accesses(at: list[float], block: list[int], size_bytes: int = 1 << 20) -> Accesses:
    number = np.array(block) * (size_bytes // UNIT_BYTES)
    return Accesses(np.array(at), number, np.full(len(at), size_bytes), np.ones(len(at), np.bool_))


def test_blocks_are_told_of_all_vms_of_the_group_in_their_order(tmp_path: Path) -> None:
    configuration = Configuration(state_folder=tmp_path)
    assert list(first_touches_of(configuration)(Group("red", "1"))) == []
    log = open_access_log(configuration, "memory", 1 << 20)
    log.add(Source("a", "red", "1", PAGE, MEMORY), accesses([1.0, 3.0], [7, 4]))
    log.add(Source("b", "red", "1", PAGE, MEMORY, "postgres"), accesses([2.0, 4.0], [7, 900]))
    log.add(Source("b", "red", "2", PAGE, MEMORY), accesses([5.0], [11]))
    log.add(Source("b", "blue", "1", PAGE, MEMORY), accesses([5.0], [12]))
    log.add(Source("b", "red", "1", PAGE, "elsewhere"), accesses([5.0], [13]))
    log.add(Source("b", "red", "1", BLOCK, "/disk"), accesses([5.0], [14]))
    log.close()
    other = open_access_log(configuration, "blocks", 1 << 20)
    other.add(Source("a", "red", "1", PAGE, MEMORY), accesses([6.0], [15]))
    other.close()
    assert list(first_touches_of(configuration)(Group("red", "1"))) == [("a", 7), ("b", 7), ("a", 4), ("b", 900)]


def test_blocks_of_another_size_than_the_newest_are_left_out(tmp_path: Path) -> None:
    configuration = Configuration(state_folder=tmp_path)
    log = open_access_log(configuration, "memory", 1 << 20)
    log.add(Source("a", "red", "1", PAGE, MEMORY), accesses([1.0, 2.0], [7, 4]))
    log.add(Source("a", "red", "1", PAGE, MEMORY), accesses([3.0, 4.0], [10, 8], size_bytes=2 << 20))
    log.close()
    assert list(first_touches_of(configuration)(Group("red", "1"))) == [("a", 10), ("a", 8)]
