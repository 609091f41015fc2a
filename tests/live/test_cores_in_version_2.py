"""Limits of borrowers, and their guard, on a kernel that has control groups of version 2, as most hosts have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from unified_guest import PASSED, run_in_guest

from forestall.lab.commands import PACKAGES, missing
from forestall.lab.image import obtain_image
from forestall.lab.place import DEFAULT_CACHE
from forestall.model.errors import ForestallError

ROOT = Path(__file__).parents[2]


@pytest.mark.guests
@pytest.mark.slow
@pytest.mark.xdist_group("version 2")
def test_the_tests_of_version_1_hold_in_version_2(tmp_path: Path) -> None:
    if lacking := missing(PACKAGES):
        pytest.skip(lacking)
    try:
        image = obtain_image(DEFAULT_CACHE, print)
    except ForestallError as error:
        pytest.skip(str(error))
    files = "/mnt/tests/test_linux_core_host.py /mnt/tests/test_core_guard.py"
    said = run_in_guest(image, tmp_path, ROOT, f"{files} -k 'real or Real or core_guard or shares or itself'")
    assert PASSED in said, said
    skipped = [line for line in said.splitlines() if line.startswith("SKIPPED") and "in version 2" not in line]
    assert not skipped, said
