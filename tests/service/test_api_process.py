"""The API as it is served: beside a daemon, over TLS, to whoever is slow."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from daemons import Site, end, wait_until

from forestall.adapters.https import open_server as module
from forestall.adapters.https.open_server import Certificates, open_server
from forestall.adapters.https.server import listen
from forestall.adapters.pki.authority import Authority
from forestall.cli import main


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that says hello, after it has heard the whole body."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@contextmanager
def served(files: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Port at which the application is served."""
    with closing(listen("127.0.0.1", 0)) as door:
        certificates = Certificates(files) if files else None
        server = open_server(hello, certificates)
        if certificates:
            certificates.follow(lambda line: None)
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            wait_until(lambda: server.started, "it serves")
            yield door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    with closing(listen("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def answers(port: int) -> Callable[[], bool]:
    """Whether the API of a port says that it lives."""

    def asked() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        return False

    return asked


def api_of(state: Path) -> list[int]:
    """Processes of the API of a state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"--while-held" in words and os.fsencode(state) in words:
                found.append(int(entry.name))
    return found


def test_it_lives_with_the_daemon_and_comes_again_when_it_is_killed(tmp_path: Path) -> None:
    port = free_port()
    with Site(tmp_path) as site:
        with (tmp_path / "forestall.toml").open("a") as file:
            file.write(f'[api]\nlisten = "127.0.0.1:{port}"\n')
        daemon = site.daemon("advise", connect=f"simulated:{tmp_path}/trace.parquet")
        wait_until(answers(port), "the API answers")
        token = site.call("token", "create", "ops", "--role", "viewer").stdout.strip()
        headers = {"Authorization": f"Bearer {token}"}
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200, "the daemon is ready")
        assert httpx.get(f"http://127.0.0.1:{port}/api/v1/vms", headers=headers).json()["items"]
        (first,) = api_of(site.state)
        if os.geteuid() == 0:
            assert "CapEff:\t0000000000000000" in Path(f"/proc/{first}/status").read_text(), "it gave up what it had"
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: answers(port)() and api_of(site.state) not in ([first], []), "it is started anew")
        code, _ = end(daemon)
        assert code == 0
        assert api_of(site.state) == []

        daemon = site.daemon("advise", connect=f"simulated:{tmp_path}/trace.parquet")
        wait_until(answers(port), "the API answers")
        end(daemon, signal.SIGKILL)
        wait_until(lambda: not api_of(site.state), "it ends with a daemon that was killed")


def test_the_api_does_not_listen_in_the_clear_where_others_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["api", "--state-folder", str(tmp_path), "--listen", "0.0.0.0:7480"]) == 2
    assert "needs TLS" in capsys.readouterr().err
    for wrong in ("7480", ":7480", "[]:7480", "127.0.0.1", "*:7480", "127.0.0.1:x"):
        assert main(["api", "--state-folder", str(tmp_path), "--listen", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["api", "--state-folder", str(tmp_path)]) == 2
    assert "listens nowhere" in capsys.readouterr().err
    (tmp_path / "forestall.toml").write_text('[api]\nlisten = "0.0.0.0:7480"\n')
    assert main(["config", "check", str(tmp_path / "forestall.toml")]) == 2
    assert "line 2" in capsys.readouterr().err


def test_over_tls_and_a_renewed_certificate_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    files = _certificate(tmp_path, "first")
    context = ssl.create_default_context(cafile=str(files[0]))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def serial(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secret:
            return secret.getpeercert(binary_form=True) or b""

    with served(files) as port:
        assert httpx.get(f"https://127.0.0.1:{port}/", verify=context).text == "hello"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/")
        before = serial(port)
        _certificate(tmp_path, "second")
        wait_until(lambda: serial(port) != before, "the new one is shown")


def test_who_does_not_say_what_they_want_is_let_go_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 1.0)
    with served() as port:
        slow = []
        for said in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(said)
            slow.append(client)
        began = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "hello"
        for client in slow:
            client.settimeout(20.0)
            while client.recv(4_096):
                pass
            client.close()
        assert 0.5 < time.monotonic() - began < 15.0


def test_who_comes_again_on_one_connection_is_not_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.5)
    with served() as port, httpx.Client() as client:
        for _ in range(4):
            assert client.get(f"http://127.0.0.1:{port}/").text == "hello"
            time.sleep(0.3)


def test_headers_have_an_end() -> None:
    with served() as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20.0)
        with suppress(OSError):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_000_000)
        with suppress(ConnectionResetError):
            assert client.recv(4_096).split()[1:2] in ([], [b"400"])
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "hello"


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for this machine, in place of one that was there."""
    now = datetime.now(UTC)
    issued = Authority.make(folder / name, name, now).issue("api", now, addresses=("127.0.0.1",))
    files = folder / "api.pem", folder / "api.key"
    for source, target in zip((issued, issued.with_suffix(".key")), files, strict=True):
        target.write_bytes(source.read_bytes())
    return files


def test_the_command_line_begins_without_what_has_threads() -> None:
    """Threads that were there before would keep what the API gives up; and ``--help`` would be slow."""
    code = "import sys, forestall.cli; print(sorted({'numpy', 'scipy', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
