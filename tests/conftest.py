"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Hosts that tests run on are shared: how long an example takes says nothing.
settings.register_profile("shared host", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared host")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run all tests on real guests and switches, one after the other: those of two starve each other.

    A test that has a group of its own stays in that: one that starts a single guest and does not look at the time.

    pytest is kept below 9.2, with which pytest-xdist 3.8 does not see groups.
    """
    for item in items:
        real = item.get_closest_marker("guests") or item.get_closest_marker("switches")
        if real and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("guests"))
