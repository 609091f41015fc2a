"""The host's page cache, and the simulated one: one contract; files that change under their paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from forestall.adapters.linux.page_cache import PageCache, runs_of
from forestall.adapters.simulated.blocks import SimulatedFileCache
from forestall.model.errors import HypervisorError
from forestall.testing.file_cache import FileCacheContract, resident, wait_for

BLOCK = 65536


class TestSimulatedFileCache(FileCacheContract):
    @pytest.fixture
    def cache(self) -> SimulatedFileCache:
        return SimulatedFileCache(BLOCK)

    @pytest.fixture
    def path(self, cache: SimulatedFileCache) -> str:  # type: ignore[override]
        cache.sizes["disk"] = 100
        return "disk"

    @pytest.fixture
    def read(self, cache: SimulatedFileCache, path: str) -> Callable[[int], None]:  # type: ignore[override]
        return lambda block: cache.resident.add((path, block))


class TestPageCache(FileCacheContract):
    @pytest.fixture
    def cache(self) -> Iterator[PageCache]:  # type: ignore[override]
        cache = PageCache(BLOCK)
        yield cache
        cache.close()

    @pytest.fixture
    def path(self, tmp_path: Path) -> str:  # type: ignore[override]
        return str(cold_file(tmp_path / "disk.img", 100 * BLOCK))

    @pytest.fixture
    def read(self, path: str) -> Callable[[int], None]:
        def read(block: int) -> None:
            with open(path, "rb") as file:
                os.pread(file.fileno(), BLOCK, block * BLOCK)

        return read


def cold_file(path: Path, size_bytes: int) -> Path:
    """A file of which nothing is in memory; skips where the file system keeps everything there."""
    path.write_bytes(os.urandom(size_bytes))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        # Whoever reads here reads a page, and the kernel nothing ahead of it.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    with PageCacheOf(path) as cache:
        if cache.present(str(path), np.zeros(1, np.int64)).any():
            pytest.skip("this file system keeps everything in memory")
    return path


class PageCacheOf:
    """A page cache for a moment."""

    def __init__(self, path: Path) -> None:
        self._cache = PageCache(BLOCK)

    def __enter__(self) -> PageCache:
        return self._cache

    def __exit__(self, *_: object) -> None:
        self._cache.close()


def test_a_last_block_that_is_not_whole_counts_as_soon_as_its_pages_are_there(tmp_path: Path) -> None:
    path = str(cold_file(tmp_path / "odd.img", 2 * BLOCK + 5000))
    with PageCacheOf(tmp_path) as cache:
        assert cache.blocks(path) == 3
        cache.bring(path, 2, 1)
        wait_for(cache, path, [2])
        assert resident(cache, path) == [2]


def test_another_file_under_the_same_path_is_looked_at_anew(tmp_path: Path) -> None:
    path = cold_file(tmp_path / "a.img", 4 * BLOCK)
    with PageCacheOf(path) as cache:
        cache.bring(str(path), 0, 4)
        wait_for(cache, str(path), [0, 1, 2, 3])
        cold_file(tmp_path / "b.img", 6 * BLOCK).replace(path)
        assert cache.blocks(str(path)) == 6
        assert resident(cache, str(path)) == []
        with path.open("r+b") as file:
            file.truncate(BLOCK)
        assert cache.blocks(str(path)) == 1
        assert cache.present(str(path), np.array([0, 5], np.int64)).tolist() == [False, False]
        path.unlink()
        with pytest.raises(HypervisorError, match="No such file"):
            cache.present(str(path), np.zeros(1, np.int64))


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with PageCacheOf(tmp_path) as cache:
        assert cache.blocks(str(tmp_path / "empty")) == 0
        assert cache.present(str(tmp_path / "empty"), np.zeros(2, np.int64)).tolist() == [False, False]


def test_what_is_neither_a_file_nor_a_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with PageCacheOf(tmp_path) as cache, pytest.raises(HypervisorError, match="neither a file nor a block device"):
        cache.bring(str(tmp_path / "pipe"), 0, 1)


def test_files_that_are_gone_or_not_wanted_any_more_are_let_go(tmp_path: Path) -> None:
    paths = [cold_file(tmp_path / f"{name}.img", 2 * BLOCK) for name in "abc"]
    with PageCacheOf(tmp_path) as cache:
        for path in paths:
            cache.present(str(path), np.zeros(1, np.int64))
        assert len(held_open(tmp_path)) == 3
        cache.keep([str(paths[0]), str(paths[1])])
        assert held_open(tmp_path) == [str(paths[0]), str(paths[1])]
        paths[0].unlink()
        with pytest.raises(HypervisorError):
            cache.blocks(str(paths[0]))
        assert held_open(tmp_path) == [str(paths[1])]


def held_open(folder: Path) -> list[str]:
    """Files of a folder that this process has open."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if os.path.lexists(link)]
    return sorted({target for target in targets if target.startswith(f"{folder}/")})


@pytest.mark.parametrize(
    ("numbers", "runs"), [([], []), ([3], [[3]]), ([1, 2, 2, 3, 7, 9, 10], [[1, 2, 2, 3], [7], [9, 10]])]
)
def test_runs(numbers: list[int], runs: list[list[int]]) -> None:
    number = np.array(numbers, np.int64)
    assert [number[places].tolist() for places in runs_of(number)] == runs


def test_a_block_is_whole_pages() -> None:
    with pytest.raises(ValueError, match="not whole pages"):
        PageCache(1000)
