"""The image that all guests of a lab share: a Debian of few packages, and a kernel; built once, kept by its recipe."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from forestall.lab.commands import BUILD_PACKAGES, PACKAGES, found, missing, run
from forestall.lab.initramfs import MODULES
from forestall.lab.lock import alone
from forestall.model.errors import HypervisorError


@dataclass(frozen=True)
class Recipe:
    """What an image is made from; ``version`` grows when the way in which it is made changes.

    ``servers`` are packages that would start something as soon as they are installed.
    """

    version: int = 3
    mirror: str = "http://deb.debian.org/debian"
    suite: str = "bookworm"
    packages: tuple[str, ...] = (
        *("python3-minimal", "libpython3.11-stdlib", "redis-server", "nginx-light", "xz-utils"),
        "qemu-guest-agent",
    )
    servers: tuple[str, ...] = ("postgresql-15",)
    kernel: str = "linux-image-cloud-amd64"
    dropped: tuple[str, ...] = (
        *("usr/share/doc", "usr/share/man", "usr/share/locale"),
        *("usr/share/i18n", "usr/lib/x86_64-linux-gnu/libLLVM-14.so.1", "usr/lib/postgresql/15/lib/bitcode"),
        *("var/cache/apt", "var/lib/apt/lists", "dev", "run"),
    )
    disk_mib: int = 1536
    modules: tuple[str, ...] = MODULES

    @property
    def key(self) -> str:
        """The same for the same recipe only."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


RECIPE = Recipe()
MOUNT_POINTS = ("dev", "proc", "run", "sys")
INSTALL = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "--no-install-recommends")
BUILD_SECONDS, DOWNLOAD_SECONDS = 900.0, 120.0


@dataclass(frozen=True)
class Image:
    """A built image: ``disk`` (raw, ext4), ``kernel`` and the folder of its ``modules``."""

    folder: Path

    @property
    def disk(self) -> Path:
        """Root disk that the guests' own disks are laid over."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        """Kernel, as QEMU loads it."""
        return self.folder / "vmlinuz"

    @property
    def modules(self) -> Path:
        """Folder of the kernel's modules that a guest loads."""
        return self.folder / "modules"


def obtain_image(cache: Path, say: Callable[[str], None]) -> Image:
    """The image of the recipe, from the cache, or built now (a few minutes, needs the network).

    Raises
    ------
    HypervisorError
        The image is not there and cannot be built; the text says what is missing.
    """
    image = Image(cache / f"image-{RECIPE.key}")
    if image.folder.exists():
        return image
    if lacking := missing(PACKAGES | BUILD_PACKAGES):
        raise HypervisorError(lacking)
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / "building.lock"):
        if not image.folder.exists():
            say(f"building the guests' image in {image.folder}, once: takes two to three minutes")
            _build(image, cache)
    return image


def _build(image: Image, cache: Path) -> None:
    """Build into a folder beside the image, which takes the image's name when it is whole."""
    building = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
    try:
        root, fresh = building / "root", Image(building / "image")
        fresh.modules.mkdir(parents=True)
        _bootstrap(root)
        _take_kernel(root, building, fresh)
        _make_disk(root, fresh.disk)
        fresh.folder.rename(image.folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _bootstrap(root: Path) -> None:
    debootstrap = [found("debootstrap") or "debootstrap", "--variant=minbase", f"--include={','.join(RECIPE.packages)}"]
    refusal = root / "usr/sbin/policy-rc.d"  # see invoke-rc.d(8)
    try:
        run(["nice", *debootstrap, RECIPE.suite, root, RECIPE.mirror], limit_seconds=BUILD_SECONDS)
        refusal.write_text("#!/bin/sh\nexit 101\n")
        refusal.chmod(0o755)
        run(["nice", "chroot", root, *INSTALL, *RECIPE.servers], limit_seconds=BUILD_SECONDS)
    except HypervisorError as error:
        raise HypervisorError(f"the guests' image needs {RECIPE.mirror}: {error}") from error
    refusal.unlink()
    run(["chroot", root, "python3", "-m", "compileall", "-q", "/usr/lib/python3.11"], limit_seconds=BUILD_SECONDS)


def _take_kernel(root: Path, building: Path, image: Image) -> None:
    """Download the kernel's package, by the index that debootstrap has verified, and unpack what a guest needs."""
    index = _index(root)
    package = index[RECIPE.kernel]["Depends"].split(",")[0].split()[0]
    wanted = index[package]
    with urllib.request.urlopen(f"{RECIPE.mirror}/{wanted['Filename']}", timeout=DOWNLOAD_SECONDS) as reply:
        content = reply.read()
    if hashlib.sha256(content).hexdigest() != wanted["SHA256"]:
        raise HypervisorError(f"the download of {package} is damaged")
    archive, unpacked = building / "kernel.deb", building / "kernel"
    archive.write_bytes(content)
    run(["dpkg-deb", "-x", archive, unpacked])
    shutil.copy(next((unpacked / "boot").glob("vmlinuz-*")), image.kernel)
    for name in MODULES:
        shutil.copy(next((unpacked / "lib/modules").rglob(f"{name}.ko")), image.modules)


def _index(root: Path) -> dict[str, dict[str, str]]:
    """Packages of the archive: name to fields; see deb-control(5)."""
    listing = next((root / "var/lib/apt/lists").glob("*_Packages"))
    packages = {}
    for stanza in listing.read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package", "").startswith("linux-image"):
            packages[fields["Package"]] = fields
    return packages


def _make_disk(root: Path, disk: Path) -> None:
    """Lay the folder down as an ext4 file system."""
    for path in RECIPE.dropped:
        if (root / path).is_file():
            (root / path).unlink()
        shutil.rmtree(root / path, ignore_errors=True)
    for path in MOUNT_POINTS:
        (root / path).mkdir(exist_ok=True)
    options = ("-q", "-t", "ext4", "-m", "0", "-O", "^metadata_csum")
    run(["mke2fs", *options, "-d", root, disk, f"{RECIPE.disk_mib}M"], limit_seconds=BUILD_SECONDS)
