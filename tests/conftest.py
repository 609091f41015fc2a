"""What holds for all tests."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run all tests on real guests, one after the other: guests of two would starve each other.

    Under pytest 9.2 pytest-xdist 3.8 does not get its way with groups, and they are spread over workers all the same.
    """
    for item in items:
        if item.get_closest_marker("guests"):
            item.add_marker(pytest.mark.xdist_group("guests"))
