"""A guest whose kernel has control groups of version 2 only, in which tests of this project run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from forestall.lab.commands import found
from forestall.lab.domain import TRANSLATED_ARGUMENTS
from forestall.lab.image import Image
from forestall.lab.initramfs import MODULES, Entry, folder, pack, program

DRIVERS = MODULES[: MODULES.index("virtio_blk") + 1]
PACKAGES = ("numpy", "numpy.libs", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
"""What the tests need beside the standard library."""
LEFT_OUT = shutil.ignore_patterns("tests", "__pycache__", "*.pyi", "*.a", "shipped")
PROCESSOR = "Nehalem"
"""The oldest one that numpy runs on."""
PASSED = "unified-guest: the tests ended with 0"
BOOT_SECONDS = 300
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /disk
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in {drivers}; do insmod /modules/$module.ko; done
until [ -b /dev/vdb ]; do usleep 50000; done
mount -t ext4 -o rw,noatime /dev/vda /disk
mount -t ext4 -o ro /dev/vdb /disk/mnt
mount -t tmpfs run /disk/run
for tree in proc sys dev; do mount --move /$tree /disk/$tree; done
mkdir -p /disk/dev/shm
mount -t cgroup2 groups /disk/sys/fs/cgroup
mkdir -p /disk/usr/local/lib/python3.11/dist-packages
echo "+cpu +cpuset" > /disk/sys/fs/cgroup/cgroup.subtree_control
for part in packages src tests; do
    echo /mnt/$part >> /disk/usr/local/lib/python3.11/dist-packages/tests.pth
done
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
setsid chroot /disk python3 -m pytest -c /dev/null --rootdir /mnt -p no:cacheprovider --color=no -ra {tests}
echo "unified-guest: the tests ended with $?"
poweroff -f
"""


def run_in_guest(image: Image, work: Path, source: Path, tests: str) -> str:
    """Boot a guest of two CPUs, run tests of this project in it, and shut it down; what it wrote on its console.

    Parameters
    ----------
    image
        The guests' image; what is written to its disk is dropped at the end.
    work
        An empty folder.
    source
        Root of this project.
    tests
        Arguments of pytest; the folder ``tests/adapters`` is at ``/mnt/tests``.
    """
    initramfs, disk = work / "initramfs", work / "tests.img"
    entries = [folder("bin"), program("bin/busybox", Path(found("busybox") or "busybox").read_bytes())]
    entries += [program("init", INIT.format(drivers=" ".join(DRIVERS), tests=tests).encode()), folder("modules")]
    entries += [Entry(f"modules/{name}.ko", (image.modules / f"{name}.ko").read_bytes()) for name in DRIVERS]
    initramfs.write_bytes(pack(entries))
    _lay_down(work / "tree", source)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", work / "tree", disk, "192M"], check=True)
    command = [
        *(found("qemu-system-x86_64") or "qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", PROCESSOR),
        *("-smp", "2", "-m", "768"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *(
            "-kernel",
            str(image.kernel),
            "-initrd",
            str(initramfs),
            "-append",
            f"console=ttyS0 quiet panic=-1 {TRANSLATED_ARGUMENTS}",
        ),
        *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
        *("-drive", f"file={disk},format=raw,if=virtio,read-only=on"),
    ]
    guest = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=BOOT_SECONDS)
    return guest.stdout.decode("utf-8", "replace") + guest.stderr.decode("utf-8", "replace")


def _lay_down(tree: Path, source: Path) -> None:
    packages = tree / "packages"
    packages.mkdir(parents=True)
    site = Path(_place("numpy")).parent
    for name in PACKAGES:
        shutil.copytree(site / name, packages / name, ignore=LEFT_OUT)
    shutil.copy(site / "py.py", packages)  # pytest's own
    for information in (*site.glob("pytest-*.dist-info"), *site.glob("pluggy-*.dist-info")):
        shutil.copytree(information, packages / information.name)
    shutil.copytree(source / "src/forestall", tree / "src/forestall", ignore=LEFT_OUT)
    shutil.copytree(source / "tests/adapters", tree / "tests", ignore=LEFT_OUT)


def _place(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return spec.submodule_search_locations[0]
