"""Contract of what the host has of files in memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from forestall.model.errors import HypervisorError
from forestall.ports.blocks import FileCache

PATIENCE_SECONDS = 30.0


class FileCacheContract:
    """Subclass, and give the fixtures: a cache, and a file of 100 blocks of which nothing is in memory."""

    @pytest.fixture
    def cache(self) -> FileCache:
        """The cache under test."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, cache: FileCache) -> str:
        """The file."""
        raise NotImplementedError

    @pytest.fixture
    def read(self, path: str) -> Callable[[int], None]:
        """Has somebody read a block of the file."""
        raise NotImplementedError

    def test_what_is_read_is_there(self, cache: FileCache, path: str, read: Callable[[int], None]) -> None:
        assert cache.blocks(path) == 100
        assert resident(cache, path) == []
        read(40)
        assert 40 in resident(cache, path)

    def test_what_is_brought_comes(self, cache: FileCache, path: str) -> None:
        cache.bring(path, 10, 3)
        cache.bring(path, 99, 1)
        wait_for(cache, path, [10, 11, 12, 99])
        assert resident(cache, path) == [10, 11, 12, 99]

    def test_however_much_is_brought_at_once_comes(self, cache: FileCache, path: str) -> None:
        cache.bring(path, 0, 100)
        wait_for(cache, path, list(range(100)))

    def test_what_is_dropped_goes_and_comes_again(self, cache: FileCache, path: str) -> None:
        cache.bring(path, 20, 5)
        wait_for(cache, path, [20, 21, 22, 23, 24])
        cache.drop(path, 21, 2)
        assert resident(cache, path) == [20, 23, 24]
        cache.bring(path, 21, 1)
        wait_for(cache, path, [21])

    def test_numbers_in_any_order_and_twice(self, cache: FileCache, path: str) -> None:
        cache.bring(path, 50, 2)
        wait_for(cache, path, [50, 51])
        numbers = np.array([70, 51, 50, 51, 0, 49], np.int64)
        assert cache.present(path, numbers).tolist() == [False, True, True, True, False, False]
        assert cache.present(path, numbers[:0]).tolist() == []

    def test_behind_the_end_there_is_nothing(self, cache: FileCache, path: str) -> None:
        cache.bring(path, 98, 10)
        wait_for(cache, path, [98, 99])
        assert cache.present(path, np.array([99, 100, 101, 5_000], np.int64)).tolist() == [True, False, False, False]

    def test_a_file_that_is_not_there_is_an_error(self, cache: FileCache, path: str) -> None:
        for act in (
            lambda: cache.blocks(f"{path}-not"),
            lambda: cache.bring(f"{path}-not", 0, 1),
            lambda: cache.drop(f"{path}-not", 0, 1),
            lambda: cache.present(f"{path}-not", np.zeros(1, np.int64)),
        ):
            with pytest.raises(HypervisorError, match="-not: No such file"):
                act()


def resident(cache: FileCache, path: str) -> list[int]:
    """Blocks that are there."""
    number = np.arange(cache.blocks(path))
    return [int(n) for n in number[cache.present(path, number)]]


def wait_for(cache: FileCache, path: str, number: list[int]) -> None:
    """Wait until blocks are there."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not cache.present(path, np.array(number, np.int64)).all():
        assert time.monotonic() < until, f"waited too long for blocks {number}"
        time.sleep(0.005)
