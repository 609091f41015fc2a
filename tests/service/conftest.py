"""What tests of the API and of the pages have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from offices import Office, advising, office_of


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """State folder of a daemon that advises."""
    with advising(tmp_path_factory.mktemp("api")) as site:
        yield site.state


@pytest.fixture
def office(state: Path, tmp_path: Path) -> Office:
    """The API of that daemon, with what it keeps in a folder of its own."""
    return office_of(state, tmp_path)
