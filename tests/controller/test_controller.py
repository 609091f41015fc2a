"""The controller as a process, and hosts that speak to it: who may, what is refused, nothing is lost or twice."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import zstandard
from test_vector_frames import batch

from forestall.adapters.duckdb.vectors import DuckdbVectors
from forestall.adapters.https.client import PATH, Uplink
from forestall.adapters.https.contexts import Identity, client_context
from forestall.adapters.pki.authority import Authority
from forestall.adapters.vector_spool.spool import FileSpool
from forestall.bootstrap.controller import expiry_warning
from forestall.cli import main
from forestall.model.errors import BadInput, CentreAway, FrameRefused, WrongUse
from forestall.ports.vectors import VectorKind
from forestall.service.forwarding import Forwarding, Gathering
from forestall.service.vector_frames import MAGIC, MAX_BODY_BYTES, encode

PATIENCE = 30.0
SPOOL = "0123456789abcdef"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with certificates of the controller and of hosts: one that holds, one that has ended."""
    folder = tmp_path_factory.mktemp("pki")
    authority = Authority.make(folder, "test", NOW - timedelta(days=30))
    authority.issue("controller", NOW, addresses=("127.0.0.1",))
    authority.issue("host-1", NOW)
    authority.issue("late", NOW - timedelta(days=20), days=10)
    return folder


def identity(pki: Path, name: str) -> Identity:
    return Identity(pki / f"issued/{name}.pem", pki / f"issued/{name}.key", pki / "ca.pem", pki / "crl.pem")


class Controller:
    """A controller in a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path, pki: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.log = folder, folder / "log"
        self.config = folder / "forestall.toml"
        self.config.write_text(
            f'state_folder = "{folder / "state"}"\n[controller]\nlisten = "127.0.0.1:{self.port}"\n'
            f'certificate = "{pki}/issued/controller.pem"\nkey = "{pki}/issued/controller.key"\n'
            f'authority = "{pki}/ca.pem"\nrevoked = "{pki}/crl.pem"\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "forestall", "controller", "--config", str(self.config)]
        before = self.lines().count("forestall: listening at 127.0.0.1:" + str(self.port))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)
        until(lambda: self.lines().count(f"forestall: listening at 127.0.0.1:{self.port}") > before, "the controller")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def stored(self) -> list[tuple[str, int]]:
        """Keys of everything that is kept; the process must have ended."""
        store = DuckdbVectors(self.folder / "state/forestall.duckdb", time.time)
        try:
            batches = store.vectors(VectorKind.PROFILE, since=0, until=2**40)
            keys = [(vm, int(at)) for b in batches for vm, at in zip(b.vm_ids, b.at, strict=True)]
            assert all(vm.startswith("host-1/") for vm, _ in keys)
            return [(vm.removeprefix("host-1/"), at) for vm, at in keys]
        finally:
            store.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE:.0f} s"
        time.sleep(0.05)


@pytest.fixture
def controller(tmp_path: Path, pki: Path) -> Iterator[Controller]:
    controller = Controller(tmp_path, pki)
    controller.start()
    yield controller
    controller.kill()


def raw(controller: Controller, context: ssl.SSLContext, request: bytes) -> bytes:
    """What is answered to some bytes; empty where the door stays shut."""
    with socket.create_connection(("127.0.0.1", controller.port), timeout=PATIENCE) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as line:
                line.sendall(request)
                return line.recv(4096)
        except OSError:
            return b""


def test_who_may_not_come_in_is_refused_in_one_line(controller: Controller, pki: Path, tmp_path: Path) -> None:
    request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    stranger = tmp_path / "stranger"
    Authority.make(stranger, "stranger", NOW).issue("host-1", NOW)
    nobody = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    foreign = Identity(stranger / "issued/host-1.pem", stranger / "issued/host-1.key", pki / "ca.pem", pki / "crl.pem")
    old = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    old.load_cert_chain(pki / "issued/host-1.pem", pki / "issued/host-1.key")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context, why in [
        (nobody, "peer did not return a certificate"),
        (client_context(foreign), "unable to get local issuer certificate|self-signed|signature|crl"),
        (client_context(identity(pki, "late")), "certificate has expired"),
        (old, "unsupported protocol"),
    ]:
        before = len(controller.lines())
        assert raw(controller, context, request) == b""
        until(lambda before=before: len(controller.lines()) > before, why)  # type: ignore[misc]
        (line,) = controller.lines()[before:]
        assert line.startswith("forestall: refused: at the door: ")
        assert any(part in line for part in why.split("|")), line
    with pytest.raises(CentreAway, match="our certificate ended at"):
        Uplink(controller.url, identity(pki, "late")).send(encode(SPOOL, 1, batch()))
    assert raw(controller, client_context(identity(pki, "host-1")), request).startswith(b"HTTP/1.1 400")


def test_what_is_no_frame_is_refused_in_one_line(controller: Controller, pki: Path) -> None:
    line, context = Uplink(controller.url, identity(pki, "host-1")), client_context(identity(pki, "host-1"))
    for body, why in [
        (b"nonsense", "not a frame of vectors"),
        (MAGIC + zstandard.ZstdCompressor().compress(bytes(1 << 30)), "unpacks to more than"),
        (bytes(MAX_BODY_BYTES + 1), "is larger than"),
    ]:
        before = len(controller.lines())
        with pytest.raises(FrameRefused, match=why):
            line.send(body)
        assert [why in text for text in controller.lines()[before:]] == [True]
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()
    assert raw(controller, context, head + b"Content-Length: 1073741824\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert "1073741824" in controller.lines()[-1]
    chunk = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
    assert raw(controller, context, head + b"Transfer-Encoding: chunked\r\n\r\n" + 5 * chunk).startswith(
        b"HTTP/1.1 413"
    )
    assert raw(controller, context, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 404")
    assert raw(controller, context, b"\x00" * 100).startswith(b"HTTP/1.1 400")
    memory = Path(f"/proc/{controller.process.pid}/status").read_text()  # type: ignore[union-attr]
    assert int(memory.split("VmHWM:")[1].split()[0]) < 500_000
    line.send(encode(SPOOL, 1, batch()))
    line.close()


def test_a_frame_that_is_replayed_is_passed_over(controller: Controller, pki: Path) -> None:
    line, body = Uplink(controller.url, identity(pki, "host-1")), encode(SPOOL, 5, batch())
    line.send(body)
    line.send(body)
    line.send(encode(SPOOL, 4, batch(at=9_000)))
    assert sum("came again: passed over" in text for text in controller.lines()) == 2
    line.close()
    controller.kill()
    assert len(controller.stored()) == 3


def test_a_revoked_certificate_is_refused_without_a_restart(controller: Controller, pki: Path) -> None:
    Authority(pki).issue("thief", NOW)
    line = Uplink(controller.url, identity(pki, "thief"))
    line.send(encode(SPOOL, 1, batch()))
    assert Authority(pki).revoke("thief", datetime.now(UTC)) == 1
    until(lambda: any("read anew" in text for text in controller.lines()), "the new list")
    with pytest.raises(CentreAway, match="show your certificate again"):
        line.send(encode(SPOOL, 2, batch()))  # over the connection that was there before
    with pytest.raises(CentreAway, match="perhaps our certificate is not believed"):
        line.send(encode(SPOOL, 2, batch()))
    assert "certificate revoked" in controller.lines()[-1]
    Uplink(controller.url, identity(pki, "host-1")).send(encode(SPOOL, 3, batch()))
    with pytest.raises(WrongUse, match="thief"):
        Authority(pki).revoke("thief", NOW)


def test_nothing_is_lost_or_twice_whatever_is_killed_when(controller: Controller, pki: Path, tmp_path: Path) -> None:
    """Vectors go on while the controller is killed five times; in the end each is there once."""
    notes: list[str] = []
    spool = FileSpool(tmp_path / "spool", encode, time.time)
    gathering = Gathering(spool, time.monotonic, frame_vectors=6)
    quick = Random(0)
    quick.uniform = lambda a, b: 0.1  # type: ignore[method-assign]
    forwarding = Forwarding(spool, Uplink(controller.url, identity(pki, "host-1")), notes.append, quick)
    forwarding.start()
    sent = set()
    for n in range(60):
        vectors = batch(at=10_000 + 10 * n, seed=n)
        gathering.add(vectors)
        sent |= set(zip(vectors.vm_ids, vectors.at.tolist(), strict=True))
        time.sleep(0.02)
        if n % 12 == 6:
            controller.kill()
            controller.start()
    gathering.close()
    until(lambda: spool.waiting == 0, "everything is sent")
    forwarding.close()
    controller.kill()
    assert sorted(controller.stored()) == sorted(sent)
    assert spool.dropped == 0
    assert any(note.startswith("vectors wait: ") for note in notes)


def test_a_refused_frame_does_not_hold_up_the_others(controller: Controller, pki: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    def damaged(name: str, sequence: int, vectors: object) -> bytes:
        return b"damaged" if sequence == 1 else encode(name, sequence, vectors)  # type: ignore[arg-type]

    spool = FileSpool(tmp_path / "spool", damaged, time.time)
    for n in range(3):
        spool.append(batch(at=1_000 * n))
    forwarding = Forwarding(spool, Uplink(controller.url, identity(pki, "host-1")), notes.append)
    forwarding.start()
    until(lambda: spool.waiting == 0, "the others are sent")
    forwarding.close()
    assert len(list((tmp_path / "spool").glob("*.refused"))) == 1
    assert "a frame was refused, and is kept as" in notes[0]
    controller.kill()
    assert len(controller.stored()) == 6


def test_the_commands_of_an_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path / "pki")]
    assert main(["pki", "issue", "x", *folder]) == 2
    assert "no authority there" in capsys.readouterr().err
    assert main(["pki", "init", *folder]) == 0
    assert main(["pki", "init", *folder]) == 2
    assert main(["pki", "issue", "a b", *folder]) == 2
    assert main(["pki", "issue", "centre", "--address", "centre.example", "--days", "5", *folder]) == 0
    assert main(["pki", "revoke", "nobody", *folder]) == 2
    assert main(["pki", "revoke", "centre", *folder]) == 0
    capsys.readouterr()
    assert main(["pki", "list", "--json", *folder]) == 0
    assert '"revoked": true' in capsys.readouterr().out
    for key in (tmp_path / "pki").rglob("*.key"):
        assert key.stat().st_mode & 0o077 == 0
    certificate = tmp_path / "pki/issued/centre.pem"
    assert expiry_warning(certificate, NOW).endswith("ends in 5 days: forestall pki issue")
    assert "has ended" in expiry_warning(certificate, NOW + timedelta(days=6))
    assert expiry_warning(certificate, NOW - timedelta(days=30)) == ""
    with pytest.raises(BadInput, match="no certificate"):
        expiry_warning(tmp_path, NOW)
    assert main(["controller", "--state-folder", str(tmp_path / "state")]) == 2
    assert "ca.pem: is no authority's certificate: no such file" in capsys.readouterr().err
