"""What an image of a disk is, as ``qemu-img info`` tells: qemu-img(1)."""

from __future__ import annotations

from typing import Any

from forestall.adapters.qemu.qemu_img import qemu_img
from forestall.model.errors import HypervisorError


def why_not_copied(path: str, image_format: str) -> str:
    """What would be lost if a disk were copied, for it is in the image beside the disk's content; empty: nothing.

    Raises
    ------
    HypervisorError
        qemu-img is missing, or cannot tell.
    """
    found = _info(path, image_format, "--force-share")
    data = found.get("format-specific", {}).get("data", {})
    inside = {
        "snapshots": found.get("snapshots"),
        "bitmaps": data.get("bitmaps"),
        "its data in another file": data.get("data-file"),
        "encryption": found.get("encrypted"),
    }
    has = [what for what, there in inside.items() if there]
    return f"the image has {', '.join(has)}" if has else ""


def has_backing(path: str, image_format: str) -> bool:
    """Whether an image is laid over another one.

    Raises
    ------
    HypervisorError
        qemu-img is missing, or cannot tell.
    """
    return "backing-filename" in _info(path, image_format, "--force-share")


def why_in_use(path: str, image_format: str) -> str:
    """Why nobody may take an image away: QEMU's lock on it, of any process; empty: nobody has it open."""
    try:
        _info(path, image_format)
    except HypervisorError as error:
        return str(error)
    return ""


def _info(path: str, image_format: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = qemu_img("info", path, image_format, *options, doing="cannot tell what it is")
    return found
