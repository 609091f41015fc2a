"""The first file system of a guest: busybox, the drivers of virtio and the guest's own programs, as one archive."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from forestall.guest.bundle import write_bundle

MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_mem",
)
"""Drivers in the order in which they load: each after those that it needs."""
PACKAGES = ("forestall.guest", "forestall.lab.guest")
"""What guests run of ours."""
AGENT = "forestall-guest"


@dataclass(frozen=True)
class Entry:
    """A file (or folder: no content) of the archive, with its type and permissions."""

    path: str
    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644


def folder(path: str) -> Entry:
    """A folder of the archive."""
    return Entry(path, mode=stat.S_IFDIR | 0o755)


def program(path: str, content: bytes) -> Entry:
    """A file that can be run."""
    return Entry(path, content, stat.S_IFREG | 0o755)


def write_initramfs(target: Path, modules: Path, busybox: Path) -> None:
    """Write the archive to ``target``, from a folder of kernel modules and a busybox linked statically."""
    entries = [*_base(busybox), *_modules(modules), *_guest_programs()]
    target.write_bytes(pack(entries))


def pack(entries: list[Entry]) -> bytes:
    """The entries as a cpio archive of the kind "newc" (Documentation/driver-api/early-userspace/buffer-format)."""
    packed = b"".join(_record(number, entry) for number, entry in enumerate(entries, start=1))
    return packed + _record(0, Entry("TRAILER!!!", mode=0))


def _record(number: int, entry: Entry) -> bytes:
    """One entry: thirteen fields of eight hex digits, its name, its content, each padded to four bytes."""
    name = entry.path.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _padded(header) + _padded(entry.content)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)


def _base(busybox: Path) -> Iterator[Entry]:
    yield folder("bin")
    yield program("bin/busybox", busybox.read_bytes())
    yield program("init", files("forestall.lab.guest").joinpath("init").read_bytes())


def _modules(modules: Path) -> Iterator[Entry]:
    yield folder("modules")
    yield Entry("modules/order", "\n".join(MODULES).encode())
    for name in MODULES:
        yield Entry(f"modules/{name}.ko", (modules / f"{name}.ko").read_bytes())


def _guest_programs() -> Iterator[Entry]:
    """Our packages, with empty packages around them, and the agent as the one file that it is elsewhere."""
    yield folder("lab")
    yield program("lab/start", files("forestall.lab.guest").joinpath("start").read_bytes())
    with tempfile.TemporaryDirectory() as built:
        write_bundle(Path(built) / AGENT)
        yield program(f"lab/{AGENT}", (Path(built) / AGENT).read_bytes())
    around = {
        "/".join(package.split(".")[:depth]) for package in PACKAGES for depth in range(1, package.count(".") + 1)
    }
    for path in sorted(around):
        yield folder(f"lab/{path}")
        yield Entry(f"lab/{path}/__init__.py")
    for package in PACKAGES:
        path = f"lab/{package.replace('.', '/')}"
        yield folder(path)
        for source in files(package).iterdir():
            if source.name.endswith(".py"):
                yield Entry(f"{path}/{source.name}", source.read_bytes())
