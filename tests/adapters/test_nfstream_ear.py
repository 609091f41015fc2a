"""Traffic of a VM, played by a namespace behind a pair of veth devices, heard and recognised by nfstream."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nfstream", reason="nfstream is not installed")

from forestall.adapters.nfstream import capture, ear
from forestall.adapters.nfstream.ear import NfstreamEar
from forestall.model.errors import HypervisorError
from forestall.ports.traffic import Flow, Taps

NAME, VM = f"fs-ear-{os.getpid()}", f"fs-ear-vm-{os.getpid()}"
KEYS = {"vm": b"a key of sixteen", "other": b"another key: 16 "}
SERVER = "import http.server as h; h.ThreadingHTTPServer(('', 8099), h.SimpleHTTPRequestHandler).serve_forever()"
CLIENT = """
import http.client, time
while True:
    try:
        line = http.client.HTTPConnection('10.99.0.2', 8099, timeout=2)
        for _ in range(20):
            line.request('GET', '/', headers={'Host': 'secret.example'}); line.getresponse().read(); time.sleep(0.02)
    except OSError:
        time.sleep(0.1)
"""
STREAM = """
import socket, struct, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(100_000):
    out.sendto(struct.pack('>BBHII', 0x80, 33, n & 65535, n * 2250 & 0xffffffff, 7) + b'G' * 1316, ('10.99.0.1', 40004))
    time.sleep(0.01)
"""


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(scope="module")
def taps() -> Iterator[dict[str, Taps]]:
    """A VM that serves pages at an unusual port and sends a stream; and one that is not there."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root, and ip from iproute2")
    try:
        run("ip", "netns", "add", NAME)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr!r}")
    started: list[subprocess.Popen[bytes]] = []
    try:
        run("ip", "netns", "add", VM)
        run("ip", "-n", NAME, "link", "add", "tap0", "type", "veth", "peer", "name", "eth0", "netns", VM)
        for place, device, address in ((NAME, "tap0", "10.99.0.1/24"), (VM, "eth0", "10.99.0.2/24")):
            run("ip", "-n", place, "addr", "add", address, "dev", device)
            run("ip", "-n", place, "link", "set", device, "up")
        for place, program in ((VM, SERVER), (NAME, CLIENT), (VM, STREAM)):
            command = ["ip", "netns", "exec", place, sys.executable, "-c", program]
            started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        time.sleep(1.0)  # what is heard is judged by what it is, not by how much
        namespace = Path("/run/netns") / NAME
        yield {"vm": Taps(("tap0",), namespace, "vm"), "other": Taps(("no-such-tap",), namespace, "other")}
    finally:
        for process in started:
            process.kill()
            process.wait()
        for place in (NAME, VM):
            subprocess.run(["ip", "netns", "delete", place], check=False, capture_output=True)


def test_what_a_vm_serves_is_recognised_whatever_its_port(taps: dict[str, Taps]) -> None:
    heard = NfstreamEar(seconds=3).listen(taps, KEYS)
    assert set(heard) == {"vm"}, "a VM without a tap is left out"
    pages = [flow for flow in heard["vm"] if flow.protocol == "HTTP"]
    assert {(flow.port, flow.serves, flow.category) for flow in pages} == {(8099, True, "Web")}
    streams = [flow for flow in heard["vm"] if flow.protocol == "RTP"]
    assert streams
    assert all(flow.serves and flow.transport == 17 for flow in streams)


def test_names_are_known_only_as_hashes_by_the_key(taps: dict[str, Taps]) -> None:
    def names(key: bytes) -> set[str]:
        heard = NfstreamEar(seconds=2).listen({"vm": taps["vm"]}, {"vm": key})
        return {flow.name for flow in heard["vm"] if flow.name}

    mine, again, theirs = names(KEYS["vm"]), names(KEYS["vm"]), names(KEYS["other"])
    assert mine == again
    assert len(mine) == 1
    assert mine.isdisjoint(theirs)
    assert "secret" not in str(mine)


def test_a_sample_is_bounded_and_spread_over_its_time(taps: dict[str, Taps], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "PACKETS_PER_S", 5)
    sample = capture.capture({"vm": taps["vm"]}, seconds=3)["vm"]
    sample.file.seek(0)
    content = sample.file.read()
    sample.file.close()
    assert 10 <= sample.packets <= 20
    seconds, place = set(), 24
    while place < len(content):
        at, _, kept, length = struct.unpack_from("<IIII", content, place)
        assert kept <= min(length, capture.SNAP_BYTES)
        seconds.add(at)
        place += 16 + kept
    assert len(seconds) >= 3


CONFINED = """
import json, os, signal, socket, sys, time
from forestall.adapters.nfstream.confinement import alone
def can(what):
    try: what()
    except OSError: return False
    return True
def tell():
    if os.fork() == 0:  # somebody who would stay
        os.setsid(); time.sleep(300); os._exit(0)
    print(json.dumps({
        'user': os.getuid(), 'groups': os.getgroups(), 'devices': [name for _, name in socket.if_nameindex()],
        'files': sorted(os.listdir('/')), 'processes': sum(name.isdigit() for name in os.listdir('/proc')),
        'back': can(lambda: os.setuid(0)), 'write': can(lambda: open('/mine', 'w')),
        'raw': can(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        'neighbour': can(lambda: os.kill(int(sys.argv[1]), 0)),
        'large': can(lambda: [os.write(file, bytes(1 << 20)) for file in [os.memfd_create('x')] * 2]),
    }))
    sys.stdout.flush()
sys.exit(alone(tell, memory_bytes=1 << 33, cpu_seconds=10, file_bytes=1 << 16, wall_seconds=20.0))
"""


def test_who_looks_into_packets_can_do_nothing_else() -> None:
    if os.geteuid():
        pytest.skip("needs root")
    with subprocess.Popen(["sleep", "60"], user=0xF0CA, cwd="/") as neighbour:
        command = [sys.executable, "-c", CONFINED, str(neighbour.pid)]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        neighbour.kill()
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {
        "user": 0xF0CA,
        "groups": [],
        "devices": ["lo"],
        "files": ["dev", "proc"],
        "processes": 2,
        **dict.fromkeys(("back", "write", "raw", "neighbour", "large"), False),
    }


def test_confined_work_ends_with_its_time_and_says_what_went_wrong() -> None:
    program = """
import sys, time
from forestall.adapters.nfstream.confinement import alone
def work():
    if sys.argv[1] == 'sleep': time.sleep(60)
    raise ValueError('no good')
sys.exit(abs(alone(work, memory_bytes=1 << 33, cpu_seconds=10, file_bytes=1 << 16, wall_seconds=1.0)))
"""
    for word, code in (("sleep", 9), ("fail", 1)):
        began = time.monotonic()
        command = [sys.executable, "-c", program, word]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert said.returncode == code
        assert time.monotonic() - began < 20
    assert said.stderr == "ValueError: no good\n"


def test_what_a_vm_is_asked_for_and_does_not_answer_is_not_what_it_serves(
    taps: dict[str, Taps], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour sends requests to a port at which nobody listens."""
    guest, neighbour = bytes.fromhex("525400770002"), bytes.fromhex("525400770001")
    request = b"GET /secret HTTP/1.1\r\nHost: made.up\r\n\r\n" * 20

    def segment(source: int, target: int, ports: tuple[int, int], flags: int, payload: bytes) -> bytes:
        tcp = struct.pack(">HHIIBBHHH", *ports, 1, 1, 0x50, flags, 1000, 0, 0) + payload
        size = 20 + len(tcp)
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, size, 0, 0, 64, 6, 0, 0x0A000000 + source, 0x0A000000 + target)
        macs = neighbour + guest if source == 2 else guest + neighbour
        return macs + b"\x08\x00" + ip + tcp

    def made_up(taps: object, seconds: int) -> dict[str, capture.Sample]:
        sample = capture.Sample(os.fdopen(os.memfd_create("made-up"), "w+b"), left=10_000)
        sample.file.write(capture.FILE_HEADER)
        for number in range(200):
            ports = 40_000 + number % 5, 8080
            sample.add(segment(1, 2, ports, 0x18, request), 1e9 + number / 100, 4)
            sample.add(segment(2, 1, (ports[1], ports[0]), 0x14, b""), 1e9 + number / 100 + 0.001, 0)
        sample.file.flush()
        return {"vm": sample}

    monkeypatch.setattr(ear, "capture", made_up)
    assert [flow for flow in NfstreamEar().listen({}, KEYS)["vm"] if flow.serves] == []


def test_a_second_tap_that_is_gone_leaves_nothing_open(taps: dict[str, Taps]) -> None:
    half = {"vm": Taps(("tap0", "no-such-tap"), taps["vm"].namespace, "vm")}
    before = sorted(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(3):
            assert capture.capture(half, seconds=1) == {}
        assert sorted(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


FLOW = '[[{"protocol":"a","category":"","serves":true,"transport":6,"port":1,"bytes":COUNT,"packets":1,"name":""}]]'
ANSWERS = {
    "not json": "print('what?')",
    "other fields": "print('[[{\"protocol\": 1}]]')",
    "too few": "print('[]')",
    "an error": "raise SystemExit('nothing goes')",
    "too much": "print('[' + ' ' * 5_000_000 + ']')",
    "a number too large": f"print({FLOW.replace('COUNT', '1' + '0' * 400)!r})",
    "no number": f"print({FLOW.replace('COUNT', '1e999')!r})",
    "below nothing": f"print({FLOW.replace('COUNT', '-1')!r})",
    "never": "import time; time.sleep(60)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("program", ANSWERS.values(), ids=ANSWERS)
def test_whatever_nfstream_does_is_one_error(
    taps: dict[str, Taps], program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It reads what strangers have sent: it is not believed."""
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(ear.sys, "executable", str(fake))
    monkeypatch.setattr(ear, "DISSECT_SECONDS", 2.0)
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(HypervisorError, match="traffic is not recognised"):
        NfstreamEar(seconds=1).listen({"vm": taps["vm"]}, KEYS)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_random_packets_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in the place of packets: nothing is recognised, nothing breaks."""
    rng = random.Random(0)

    def noise(taps: object, seconds: int) -> dict[str, capture.Sample]:
        sample = capture.Sample(os.fdopen(os.memfd_create("noise"), "w+b"), left=10_000)
        sample.file.write(capture.FILE_HEADER)
        for number in range(2_000):
            head = bytes.fromhex("525400770001525400770002") + rng.choice([b"\x08\x00\x45", b"\x86\xdd\x60", b""])
            sample.add(head + rng.randbytes(rng.randrange(0, 1500)), 1e9 + number / 100, 0)
        sample.file.flush()
        return {"vm": sample}

    monkeypatch.setattr(ear, "capture", noise)
    found = NfstreamEar().listen({}, KEYS)["vm"]
    assert all(isinstance(flow, Flow) for flow in found)
    assert sum(flow.packets for flow in found) <= 2_000
