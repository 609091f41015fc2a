"""What the tests on real guests share."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from forestall.lab.commands import PACKAGES, missing
from forestall.lab.daemon import libvirt_module
from forestall.lab.image import obtain_image
from forestall.lab.place import DEFAULT_CACHE
from forestall.lab.site import Lab
from forestall.model.errors import ForestallError


@pytest.fixture(scope="module")
def new_lab() -> Lab:
    """A lab that is not up yet, and is taken down by whoever takes it up; skips where there can be none."""
    if lacking := missing(PACKAGES):
        pytest.skip(lacking)
    try:
        libvirt_module()
        obtain_image(DEFAULT_CACHE, print)
    except ForestallError as error:
        pytest.skip(str(error))
    return Lab(Path("/run") / f"forestall-test-{uuid4().hex[:8]}")
