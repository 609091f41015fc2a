"""What a lab is made of, before anything is started."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from forestall.lab import leftovers
from forestall.lab.accelerator import Accelerator
from forestall.lab.commands import found
from forestall.lab.domain import Boot, domain_xml
from forestall.lab.initramfs import MODULES, write_initramfs
from forestall.lab.place import Place
from forestall.lab.plan import GUESTS, Pace, chosen
from forestall.lab.settings_file import settings_text
from forestall.model.errors import WrongUse
from forestall.settings import load_configuration


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "lab", "try")


def _boot(accelerator: Accelerator = Accelerator.TCG) -> Boot:
    return Boot(Path("/k"), Path("/i"), accelerator, Pace(60.0, load_ratio=0.5, report_seconds=2.0), 1000.0)


@pytest.mark.parametrize("plan", GUESTS, ids=lambda plan: plan.name)
def test_a_definition_names_what_is_the_labs_own(place: Place, plan) -> None:
    domain = ElementTree.fromstring(domain_xml(place, plan, _boot()))
    assert domain.get("type") == "qemu"
    assert domain.findtext("name") == f"try-{plan.name}"
    assert domain.find("devices/interface/target").get("dev") == plan.tap
    assert domain.find("devices/channel/source").get("path") == str(place.port(plan.name))
    assert domain.find("devices/memballoon/stats").get("period") == "1"
    assert f"forestall.role={plan.role} forestall.day=60.0 forestall.load=0.5 forestall.report=2.0" in domain.findtext(
        "os/cmdline"
    )
    assert (domain.find("devices/memory") is not None) == bool(plan.growth_bytes)
    assert domain_xml(place, plan, _boot()) == domain_xml(place, plan, _boot())


def test_a_lab_says_how_forestall_is_to_be_set_for_it(place: Place) -> None:
    place.claim()
    for day_seconds, step_seconds in ((600.0, 720), (60.0, 3600), (86_400.0, 5), (1e6, 5)):
        place.settings.write_text(settings_text(place, Pace(day_seconds), epoch=1_795_668_072.231))
        found = load_configuration(place.settings)
        assert found.connect == place.uri
        assert found.step_seconds == step_seconds
        assert found.time_lapse.pace == max(86_400 / day_seconds, 1.0)
        assert found.time_lapse.midnight_at == 1_795_668_072.231


def test_on_kvm_guests_have_the_hosts_processor(place: Place) -> None:
    domain = ElementTree.fromstring(domain_xml(place, GUESTS[0], _boot(Accelerator.KVM)))
    assert (domain.get("type"), domain.find("cpu").get("mode")) == ("kvm", "host-passthrough")


def test_no_two_guests_share_an_address() -> None:
    for attribute in ("name", "number", "tap", "address", "mac"):
        assert len({getattr(plan, attribute) for plan in GUESTS}) == len(GUESTS)


def test_guests_are_chosen_by_number_or_by_name() -> None:
    assert [plan.name for plan in chosen(2)] == ["web", "redis"]
    assert [plan.name for plan in chosen(("idle", "web", "idle"))] == ["idle", "web"]
    for wrong in (0, len(GUESTS) + 1, ("nobody",), ("web:",), ("web:0",), ("web:65536",), ("web:x",), ("idle:80",)):
        with pytest.raises(WrongUse):
            chosen(wrong)


def test_a_guest_serves_at_the_port_of_its_role_or_at_another(place: Place) -> None:
    web, moved = chosen(("web", "redis:7000"))
    assert (web.port, web.words, moved.port, moved.words) == (80, "web", 7000, "redis:7000")
    assert chosen((web.words, moved.words)) == (web, moved)
    command_line = ElementTree.fromstring(domain_xml(place, moved, _boot())).findtext("os/cmdline")
    assert command_line is not None
    assert " forestall.port=7000 " in command_line


def test_a_name_or_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    assert Place.at(tmp_path / "some").name == "some"
    with pytest.raises(WrongUse, match="--name"):
        Place.at(tmp_path, "a b")
    with pytest.raises(WrongUse, match="shorter --folder"):
        Place.at(Path("/run") / ("x" * 100), "ok")


def test_two_labs_share_no_names(tmp_path: Path) -> None:
    one, other = Place(tmp_path / "one", "one"), Place(tmp_path / "other", "other")
    assert one.namespace != other.namespace
    assert one.uri != other.uri
    assert one.domain("web") != other.domain("web")
    assert Place(tmp_path, "forestall-lab").namespace == "forestall-lab"


def test_a_folder_that_is_not_a_labs_is_neither_used_nor_removed(place: Place) -> None:
    place.folder.mkdir()
    precious = place.folder / "precious"
    precious.touch()
    with pytest.raises(WrongUse, match="not a lab"):
        place.claim()
    place.clear()
    assert precious.exists()


def test_a_claimed_folder_goes_with_all_that_is_in_it(place: Place) -> None:
    place.claim()
    place.claim()
    (place.folder / "something").touch()
    place.clear()
    assert not place.folder.exists()


def test_only_the_labs_own_control_groups_go(place: Place, tmp_path: Path) -> None:
    ours = "cpu/machine/qemu-3-try-web.libvirt-qemu/vcpu0"
    others = ["cpu/machine/qemu-3-mytry-web.libvirt-qemu", "cpu/machine/qemu-4-try-web2.libvirt-qemu"]
    for path in (ours, *others):
        (tmp_path / path).mkdir(parents=True)
    leftovers.remove_control_groups(place, tmp_path)
    assert sorted(path.name for path in (tmp_path / "cpu/machine").iterdir()) == sorted(Path(p).name for p in others)


def test_ending_processes_ends_those_and_survives_the_gone() -> None:
    sleeper = subprocess.Popen(["sleep", "600"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    leftovers.end([sleeper.pid, gone.pid])
    assert not leftovers._runs(sleeper.pid)
    sleeper.wait()


def test_a_process_that_only_mentions_the_lab_is_not_the_labs(place: Place) -> None:
    words = ["sleep", "600", str(place.daemon_configuration), str(place.folder)]
    other = subprocess.Popen(["bash", "-c", "read", *words], stdin=subprocess.PIPE)
    try:
        assert leftovers.daemon_pids(place) == []
        assert leftovers.attendant_pids(place) == []
        assert leftovers.guest_pids(place) == {}
    finally:
        other.kill()
        other.communicate()


@pytest.mark.skipif(found("cpio") is None, reason="needs cpio to read the archive")
def test_the_first_file_system_is_one_that_cpio_reads(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    for name in MODULES:
        (modules / f"{name}.ko").write_bytes(b"module" + name.encode())
    (tmp_path / "busybox").write_bytes(b"busy" * 33)
    write_initramfs(tmp_path / "archive", modules, tmp_path / "busybox")
    listing = subprocess.run(["cpio", "-tv"], stdin=(tmp_path / "archive").open("rb"), capture_output=True, text=True)
    assert "-rwxr-xr-x" in next(line for line in io.StringIO(listing.stdout) if line.strip().endswith(" init"))
    for part in ("bin/busybox", "modules/virtio_net.ko", "lab/start", "lab/forestall/lab/guest/reporter.py"):
        assert f" {part}\n" in listing.stdout
