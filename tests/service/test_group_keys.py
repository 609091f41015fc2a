"""Keys of trust groups: the same each time, each group's own, from a secret that only its owner can read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forestall.adapters.files.group_keys import NAME, FileGroupKeys
from forestall.model.errors import StoreError


def test_keys_last_and_differ(tmp_path: Path) -> None:
    keys = FileGroupKeys(tmp_path)
    assert keys("red") == keys("red") == FileGroupKeys(tmp_path)("red")
    assert len({keys("red"), keys("blue"), keys("")}) == 3
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    (tmp_path / NAME).chmod(0o644)
    FileGroupKeys(tmp_path)("red")
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other host"
    other.mkdir()
    assert FileGroupKeys(other)("red") != keys("red")


def test_whoever_comes_first_makes_the_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: FileGroupKeys(tmp_path)("red"), range(32)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_secret_that_is_damaged_or_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"short")
    with pytest.raises(StoreError, match="no key of 32 bytes"):
        FileGroupKeys(tmp_path)("red")
    assert (tmp_path / NAME).read_bytes() == b"short", "it is not replaced: hashes made with it could not be compared"
    with pytest.raises(StoreError, match="No such file"):
        FileGroupKeys(tmp_path / "nowhere")("red")
