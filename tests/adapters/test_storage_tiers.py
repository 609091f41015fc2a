"""Removing images of disks that were moved: only where it is known that nobody has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt-python is not installed")

from forestall.adapters.libvirt.storage_tiers import StorageTiers  # noqa: E402
from forestall.adapters.qemu.images import has_backing, why_in_use, why_not_copied  # noqa: E402
from forestall.model.errors import HypervisorError  # noqa: E402
from forestall.ports.tiers import Move, State  # noqa: E402


def disk(source: str) -> str:
    return f"<domain><devices><disk type='file'><source {source}/><target dev='vda'/></disk></devices></domain>"


class Domain:
    def __init__(self, name: str, xml: str = "<domain/>", kept: str = "<domain/>", code: int = 0) -> None:
        self._name, self._xml, self._kept, self._code = name, xml, kept, code

    def name(self) -> str:
        return self._name

    def isPersistent(self) -> bool:
        return True

    def XMLDesc(self, flags: int = 0) -> str:
        if self._code:
            error = libvirt.libvirtError("it failed")
            error.err = (self._code, 0, "it failed", 0, "", "", "", 0, 0)
            raise error
        return self._kept if flags else self._xml


class Volume:
    def __init__(self, path: str) -> None:
        self.path = lambda: path


class Pool:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def storageVolLookupByName(self, name: str) -> Volume:
        return Volume(str(self._folder / name))


class Host:
    """Stands for a connection, and for libvirt's handle of it."""

    def __init__(self, folder: Path, *domains: Domain) -> None:
        self._domains, self._pool = domains, Pool(folder)

    def handle(self) -> Host:
        return self

    def listAllDomains(self) -> tuple[Domain, ...]:
        return self._domains

    def storagePoolLookupByName(self, name: str) -> Pool:
        if name != "pool":
            raise libvirt.libvirtError("no such pool")
        return self._pool

    def storagePoolLookupByTargetPath(self, path: str) -> Any:
        raise libvirt.libvirtError("no pool there")

    def lookupByUUIDString(self, uuid: str) -> Any:
        error = libvirt.libvirtError("no such domain")
        error.err = (libvirt.VIR_ERR_NO_DOMAIN, 0, "no such domain", 0, "", "", "", 0, 0)
        raise error


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "slow" / "a.img"
    path.parent.mkdir()
    path.write_bytes(bytes(1 << 20))
    return path


def move(image: Path) -> Move:
    return Move(
        vm_id="a",
        target="vda",
        uuid="u",
        source=str(image),
        destination="/nowhere/a.img",
        from_tier="slow",
        to_tier="fast",
        size_bytes=1,
        bytes_per_s=1,
        why="",
        state=State.SWITCHED,
        began_at=0.0,
    )


def removed(image: Path, *domains: Domain) -> str:
    tiers = StorageTiers(Host(image.parent, *domains), ())  # type: ignore[arg-type]
    return tiers.remove(move(image), str(image))


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="no qemu-img here")
def test_an_image_that_nobody_has_goes(image: Path) -> None:
    other = disk("file='/other.img'")
    gone = Domain("gone", code=libvirt.VIR_ERR_NO_DOMAIN)
    assert removed(image, Domain("b", other, other), gone) == ""
    assert not image.exists()
    assert removed(image) == ""


@pytest.mark.parametrize("way", ["runs", "starts", "link", "double slash", "below", "volume"])
def test_an_image_that_a_vm_has_stays(image: Path, tmp_path: Path, way: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(image.parent)
    xml = {
        "link": disk(f"file='{link}/a.img'"),
        "double slash": disk(f"file='/{image}'"),
        "below": f"<domain><disk><backingStore><source file='{image}'/></backingStore></disk></domain>",
        "volume": disk("pool='pool' volume='a.img'"),
    }.get(way, disk(f"file='{image}'"))
    domain = Domain("rescue", "<domain/>", xml) if way == "starts" else Domain("rescue", xml)
    assert removed(image, domain) == f"{image} is kept: rescue has it"
    assert image.exists()


@pytest.mark.parametrize(
    "domain",
    [Domain("b", code=libvirt.VIR_ERR_OPERATION_TIMEOUT), Domain("b", disk("pool='gone' volume='a.img'"))],
    ids=["no answer", "a pool that is gone"],
)
def test_an_image_stays_where_it_is_not_known_who_has_it(image: Path, domain: Domain) -> None:
    assert "is kept: it cannot be known whether a VM has it" in removed(image, domain)
    assert image.exists()


def test_what_is_no_plain_file_stays(image: Path) -> None:
    link = image.with_name("b.img")
    link.symlink_to(image)
    tiers = StorageTiers(Host(image.parent), ())  # type: ignore[arg-type]
    assert tiers.remove(move(image), str(link)) == f"{link} is kept: it is no plain file"


def test_tiers_are_folders_of_their_own(tmp_path: Path) -> None:
    def tiers(*names: str) -> StorageTiers:
        return StorageTiers(Host(tmp_path), tuple((name, 1.0) for name in names))  # type: ignore[arg-type]

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = tiers(str(tmp_path / "a"), str(tmp_path / "b")).tiers()
    assert [os.path.basename(tier.folder) for tier in found] == ["a", "b"]
    assert found[0].free_bytes > 0
    with pytest.raises(HypervisorError, match="are one folder"):
        tiers(str(tmp_path / "a"), f"{tmp_path}/a/").tiers()
    with pytest.raises(HypervisorError, match="No such file"):
        tiers(str(tmp_path / "c")).tiers()


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="no qemu-img here")
def test_what_is_in_an_image_beside_the_disk(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"

    def qemu_img(*words: object) -> None:
        subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)

    qemu_img("create", "-f", "qcow2", base, "1M")
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    assert (why_not_copied(str(top), "qcow2"), has_backing(str(top), "qcow2")) == ("", True)
    assert not has_backing(str(base), "qcow2")
    assert why_in_use(str(top), "qcow2") == ""
    qemu_img("snapshot", "-c", "before", top)
    qemu_img("bitmap", "--add", top, "changes")
    assert why_not_copied(str(top), "qcow2") == "the image has snapshots, bitmaps"
    with pytest.raises(HypervisorError, match="cannot tell what it is"):
        why_not_copied(str(tmp_path / "gone"), "qcow2")
