"""Where a lab lives: its folder, and the names of everything outside that folder, which all follow from its name."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from forestall.model.errors import WrongUse

DEFAULT_FOLDER = Path("/run/forestall-lab")
DEFAULT_CACHE = Path("/var/cache/forestall/lab")
MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket, bytes; unix(7)."""
LONGEST_SOCKET = "guests/database/agent.sock"
NAMESPACE_PREFIX = "forestall-"
LIBVIRT_FOLDERS = {"run": "/run/libvirt", "lib": "/var/lib/libvirt", "etc": "/etc/libvirt", "log": "/var/log/libvirt"}
"""Folders of ours that libvirtd sees in place of the system's."""


@dataclass(frozen=True)
class Place:
    """The folder of a lab, and its name: letters, digits and hyphens, for libvirt drops what else a name may have."""

    folder: Path
    name: str

    @classmethod
    def at(cls, folder: Path, name: str | None = None) -> Place:
        """The place of a lab in a folder; its name is that of the folder unless given."""
        folder = Path(os.path.abspath(folder))
        place = cls(folder, folder.name if name is None else name)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}", place.name):
            raise WrongUse(f"the lab's name {place.name!r} is not 1 to 32 letters, digits and hyphens: give --name")
        if len(os.fsencode(folder / LONGEST_SOCKET)) > MAX_SOCKET_PATH:
            raise WrongUse(f"{folder} is too long a path for the sockets in it: give a shorter --folder")
        return place

    @property
    def uri(self) -> str:
        """What to connect libvirt to."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt-sock"

    @property
    def namespace(self) -> str:
        """Network namespace: the lab's name, with a prefix that keeps it apart from those of others."""
        return self.name if self.name.startswith(NAMESPACE_PREFIX) else NAMESPACE_PREFIX + self.name

    @property
    def namespace_path(self) -> Path:
        """Where the network namespace is held."""
        return Path("/run/netns") / self.namespace

    @property
    def mark(self) -> Path:
        """Empty file that says that the folder is a lab's, and may be removed with all that is in it."""
        return self.folder / ".forestall-lab"

    @property
    def record(self) -> Path:
        """What was started, as JSON."""
        return self.folder / "lab.json"

    @property
    def settings(self) -> Path:
        """How Forestall is to be set for this lab."""
        return self.folder / "forestall.toml"

    @property
    def daemon_configuration(self) -> Path:
        """Configuration of libvirtd."""
        return self.folder / "etc" / "libvirtd.conf"

    def claim(self) -> None:
        """Make the folder, and mark it as a lab's; one that holds something else is an error (WrongUse)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.mark.exists() and any(self.folder.iterdir()):
            raise WrongUse(f"{self.folder} holds something that is not a lab: give another --folder")
        self.mark.touch()

    def clear(self) -> None:
        """Remove the folder, if it is a lab's; the mark goes last, so that an interruption can be made good."""
        if not self.mark.exists():
            return
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != self.mark:
                path.unlink()
        self.mark.unlink()
        self.folder.rmdir()

    def domain(self, guest: str) -> str:
        """Name of a guest's domain."""
        return f"{self.name}-{guest}"

    def guest_folder(self, guest: str) -> Path:
        """Disk, sockets and console of a guest."""
        return self.folder / "guests" / guest

    def port(self, guest: str) -> Path:
        """Socket of a guest's virtio-serial port; the lab's attendant holds its only connection."""
        return self.guest_folder(guest) / "port.sock"

    def agent(self, guest: str) -> Path:
        """Socket of QEMU's agent in a guest; the lab's libvirtd holds its only connection."""
        return self.guest_folder(guest) / "agent.sock"

    def profile(self, guest: str) -> Path:
        """Socket of Forestall's agent in a guest; who watches the guests holds its only connection."""
        return self.guest_folder(guest) / "guest.sock"

    def link(self, guest: str) -> Path:
        """Socket on which the attendant passes a guest's reports on, and takes commands, for any number of clients."""
        return self.guest_folder(guest) / "link.sock"

    def report(self, guest: str) -> Path:
        """A guest's latest report, as JSON; its time of change is when it came."""
        return self.guest_folder(guest) / "report.json"

    def inside(self, *command: str) -> list[str]:
        """A command that runs in the lab's network namespace."""
        return ["nsenter", f"--net={self.namespace_path}", "--", *command]
