"""Where in the host's files a disk's bytes lie: itself for a raw image, else as ``qemu-img map`` tells.

Source: qemu-img(1), map and info. An image that is in use is only looked at (``--force-share``); what its VM writes
meanwhile may be missing until it is asked again, and is then not staged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from forestall.adapters.qemu.qemu_img import qemu_img
from forestall.model.errors import HypervisorError
from forestall.model.samples import BoolArray, IntArray
from forestall.ports.blocks import DiskFile

EVERYTHING = 1 << 62
_DOING = "cannot tell where its blocks lie"


class Extents(NamedTuple):
    """A disk's parts, by where they begin; arrays (extent,): start and length on the disk, file and offset there."""

    files: tuple[DiskFile, ...]
    start: IntArray
    length: IntArray
    file: IntArray
    offset: IntArray

    def locate(self, offset: IntArray, size: IntArray) -> tuple[BoolArray, IntArray, IntArray, IntArray]:
        """Of requests (request,): whether it is known where they lie, file, offset there, and size.

        What goes on behind the end of its part is cut off.
        """
        if not len(self.start):
            nothing = np.zeros(len(offset), np.int64)
            return np.zeros(len(offset), np.bool_), nothing, nothing, nothing
        at = np.clip(np.searchsorted(self.start, offset, "right") - 1, 0, None)
        into = offset - self.start[at]
        known = (into >= 0) & (into < self.length[at])
        return known, self.file[at], self.offset[at] + into, np.minimum(size, self.length[at] - into)


def extents_of(path: str, image_format: str, alone: bool) -> Extents:
    """Where the bytes of the disk in an image lie; ``alone``: no other VM has the image.

    Raises
    ------
    HypervisorError
        qemu-img is missing, or cannot tell.
    """
    if image_format == "raw":
        whole = np.zeros(1, np.int64)
        return Extents((DiskFile(path, own=alone),), whole, whole + EVERYTHING, whole, whole)
    chain = qemu_img("info", path, image_format, "--force-share", "--backing-chain", doing=_DOING)
    if any("data-file" in image.get("format-specific", {}).get("data", {}) for image in chain):
        raise HypervisorError(f"{path}: its data lie in another file")
    files = tuple(DiskFile(str(image["filename"]), own=alone and depth == 0) for depth, image in enumerate(chain))
    parts = qemu_img("map", path, image_format, "--force-share", doing=_DOING)
    return extents_from(files, parts)


def extents_from(files: tuple[DiskFile, ...], parts: list[dict[str, Any]]) -> Extents:
    """Extents from what ``qemu-img map --output=json`` prints, of the images of a chain, the topmost first."""
    data = [part for part in parts if part.get("data") and "offset" in part and part["depth"] < len(files)]
    columns = (np.array([part[name] for part in data], np.int64) for name in ("start", "length", "depth", "offset"))
    return Extents(files, *columns)
