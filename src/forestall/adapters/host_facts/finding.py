"""What a check found, and the commands that mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """``ok``; ``limited``: something can be done without it, but less; ``missing``: it is not there."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of ``forestall doctor``.

    ``fix`` is the command that mends it, empty where nothing has to be or can be mended. ``needed`` says that without
    it Forestall cannot even observe.
    """

    name: str
    status: Status
    what: str
    why: str = ""
    fix: str = ""
    needed: bool = False


_INSTALL = {
    "debian": "apt-get install",
    "fedora": "dnf install",
    "suse": "zypper install",
    "arch": "pacman -S",
}
_PACKAGES = {
    "libvirt": {"debian": "libvirt-daemon-system", "arch": "libvirt", "": "libvirt"},
    "libvirt headers": {
        "debian": "libvirt-dev pkg-config python3-dev gcc",
        "fedora": "libvirt-devel pkgconf python3-devel gcc",
        "suse": "libvirt-devel pkgconf python3-devel gcc",
        "arch": "libvirt pkgconf gcc",
        "": "the headers of libvirt, pkg-config, gcc",
    },
    "chrony": {"": "chrony"},
}


def install(what: str, family: str) -> str:
    """Command that installs something on a distribution of ``family``."""
    names = _PACKAGES[what]
    package = names.get(family, names[""])
    return f"{_INSTALL[family]} {package}" if family in _INSTALL else f"install {package}"
