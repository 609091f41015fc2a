"""Commands of the system that the lab needs: which are missing, and how one is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

from forestall.model.errors import HypervisorError

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "libvirtd": "libvirt-daemon-system libvirt-daemon-driver-qemu",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "busybox": "busybox-static",
}
"""Package of Debian for each command that a lab needs."""
BUILD_PACKAGES = {"debootstrap": "debootstrap", "mke2fs": "e2fsprogs", "dpkg-deb": "dpkg"}
"""As above, for what is needed once, to build the image."""
SHOWN_CHARACTERS = 60
SUPER_USER_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def missing(packages: dict[str, str]) -> str:
    """Say in one clause what stands in the way of a lab; empty when nothing does."""
    if os.geteuid() != 0:
        return "the lab needs root: it makes network namespaces and runs its own libvirtd"
    absent = {package for command, package in packages.items() if found(command) is None}
    return f"missing: apt-get install {' '.join(sorted(absent))}" if absent else ""


def found(command: str) -> str | None:
    """Path of a command, also where the caller's path has no ``sbin``."""
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:{SUPER_USER_PATH}")


def run(command: Sequence[str | Path], *, limit_seconds: float = 60.0) -> str:
    """Run a command to its end and return what it printed.

    Raises
    ------
    HypervisorError
        It is not there, failed or took longer than ``limit_seconds``; the text is the last line that it said.
    """
    words = [str(word) for word in command]
    words[0] = found(words[0]) or words[0]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HypervisorError(f"{Path(words[0]).name}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"ended with {done.returncode}").splitlines()[-1]
        shown = textwrap.shorten(" ".join([Path(words[0]).name, *words[1:]]), SHOWN_CHARACTERS, placeholder=" ...")
        raise HypervisorError(f"{shown}: {said}")
    return done.stdout
