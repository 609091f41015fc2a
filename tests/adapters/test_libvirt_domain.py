from __future__ import annotations

import pytest

from forestall.adapters.libvirt.domain import Interface, parse_domain
from forestall.model.errors import HypervisorError

MIB = 1024 * 1024
XML = """
<domain type='kvm' id='7'>
  <name>db</name>
  <uuid>29cd6367-01e4-4822-b22c-7dd855c5e78e</uuid>
  <maxMemory slots='4' unit='MiB'>2048</maxMemory>
  <memory unit='KiB'>1048576</memory>
  <currentMemory unit='KiB'>655360</currentMemory>
  <vcpu placement='static' current='1'>4</vcpu>
  <devices>
    <disk type='file' device='disk'><source file='/d'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/c'/><target dev='sda' bus='sata'/></disk>
    <disk type='file' device='disk'><target dev='vdb' bus='virtio'/></disk>
    <interface type='bridge'><target dev='vnet3'/><virtualport type='openvswitch'/></interface>
    <interface type='user'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <memballoon model='virtio'><stats period='10'/></memballoon>
    <memory model='virtio-mem'>
      <target>
        <size unit='KiB'>524288</size><node>0</node><block unit='KiB'>2048</block>
        <requested unit='KiB'>262144</requested><current unit='KiB'>131072</current>
      </target>
      <alias name='virtiomem0'/>
    </memory>
    <memory model='dimm'><target><size unit='KiB'>1024</size></target></memory>
  </devices>
</domain>"""


def test_what_a_domain_is() -> None:
    domain = parse_domain(XML)
    assert (domain.name, domain.number, domain.kind, domain.uuid[:8]) == ("db", 7, "kvm", "29cd6367")
    assert (domain.vcpus, domain.max_vcpus) == (1, 4)
    assert (domain.max_memory_bytes, domain.memory_bytes) == (1024 * MIB, 640 * MIB)
    assert (domain.base_max_bytes, domain.plugged_bytes, domain.base_bytes) == (512 * MIB, 128 * MIB, 512 * MIB)
    assert (domain.has_balloon, domain.stats_period_seconds, domain.has_agent) == (True, 10, True)
    assert domain.disks == ("vda",)
    assert domain.interfaces == (Interface("vnet3", "bridge", True), Interface("", "user", False))


def test_a_virtio_mem_device_is_sent_back_with_another_request() -> None:
    (device,) = parse_domain(XML).virtio_mem
    assert (device.size_bytes, device.block_bytes) == (512 * MIB, 2 * MIB)
    assert (device.requested_bytes, device.current_bytes) == (256 * MIB, 128 * MIB)
    asked = device.requesting(64 * MIB)
    assert '<requested unit="KiB">65536</requested>' in asked
    assert asked == device.xml.replace(">262144<", ">65536<")


def test_what_is_not_said_has_its_default() -> None:
    domain = parse_domain("<domain type='xen'><name>a</name><memory unit='GiB'>2</memory><vcpu>3</vcpu></domain>")
    assert (domain.vcpus, domain.max_vcpus, domain.memory_bytes) == (3, 3, 2048 * MIB)
    assert (domain.has_balloon, domain.has_agent, domain.virtio_mem, domain.disks) == (False, False, (), ())


def test_no_balloon_is_no_balloon() -> None:
    assert not parse_domain(XML.replace("model='virtio'><stats", "model='none'><stats")).has_balloon


@pytest.mark.parametrize("xml", ["", "not XML", "<pool/>", "<domain><name>a</name></domain>"])
def test_anything_else_is_an_error(xml: str) -> None:
    with pytest.raises(HypervisorError, match="libvirt's description of a domain"):
        parse_domain(xml)
