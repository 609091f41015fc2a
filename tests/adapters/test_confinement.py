"""What a process that serves strangers can no longer do, as seen from inside."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only a superuser has something to give up")
INSIDE = """\
import ctypes, json, multiprocessing, os, socket, subprocess, sys
from pathlib import Path
from forestall.adapters.linux import confinement
from forestall.adapters.linux.confinement import see_and_change_only
folder, outside, listening, confinement.NAMES = map(Path, sys.argv[1:5])
before = socket.create_server(("127.0.0.1", 0))
left = see_and_change_only(folder / "own", folder)

def said(do):
    try:
        return do() or "done"
    except OSError as error:
        return os.strerror(error.errno)

def reached(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

status = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\\t" in line)
libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps({
    "capabilities": [status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "left": left,
    "no new": status["NoNewPrivs"],
    "inside": said(lambda: (folder / "own/new").write_text("x") and None),
    "around": said(lambda: (folder / "new").write_text("x") and None),
    "device": said(lambda: os.close(os.open("/dev/zero", os.O_RDWR))),
    "socket inside": said(lambda: reached(folder / "socket")),
    "outside": said(lambda: (outside / "new").write_text("x") and None),
    "etc": said(lambda: Path("/etc/forestall-test").write_text("x") and None),
    "setting": said(lambda: Path("/proc/sys/kernel/hostname").write_text("x") and None),
    "other socket": said(lambda: reached(listening)),
    "read": said(lambda: Path("/etc/passwd").read_bytes() and None),
    "remounted": libc.mount(b"none", b"/", None, ctypes.c_ulong(32 | 4096), None),
    "program": subprocess.run(["/bin/true"], stdout=subprocess.DEVNULL).returncode,
    "names": said(confinement.NAMES.read_text),
    "names changed": said(lambda: confinement.NAMES.write_text("x") and None),
    "semaphore": said(lambda: multiprocessing.Semaphore(1) and None),
    "shared": os.listdir("/dev/shm"),
    "parent": said(lambda: os.pread(os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY), 1, 4096) and None),
}))
"""


@pytest.fixture(params=["/tmp", "/run"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder that it may change, also where it is in what is hidden."""
    with tempfile.TemporaryDirectory(dir=request.param) as found, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{found}/socket")
        server.listen()
        (Path(found) / "own").mkdir()
        yield Path(found)


def test_it_changes_its_folder_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as run, closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(f"{run}/libvirt")
        server.listen()
        Path(run, "stub-resolv.conf").write_text("nameserver 192.0.2.1")
        names = tmp_path / "resolv.conf"
        names.symlink_to(f"{run}/stub-resolv.conf")
        command = [sys.executable, "-c", INSIDE, str(folder), str(tmp_path), f"{run}/libvirt", str(names)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["capabilities"]) == {"0000000000000000"}
    assert (found["left"], found["no new"]) == ("", "1")
    assert (found["inside"], found["socket inside"], found["read"]) == ("done", "done", "done")
    assert {found[key] for key in ("around", "outside", "etc", "setting")} == {"Read-only file system"}
    assert found["device"] == "Permission denied"
    assert found["other socket"] == "No such file or directory"
    assert found["remounted"] == -1
    assert found["program"] == 0
    assert found["names"] == "nameserver 192.0.2.1", "webhooks have names"
    assert found["names changed"] == "Read-only file system"
    assert (found["semaphore"], found["shared"]) == ("done", []), (
        "what it starts can wait for each other, and sees nothing"
    )
    assert found["parent"] in ("Permission denied", "Operation not permitted")
    assert (folder / "own/new").read_text() == "x"
    assert not (tmp_path / "new").exists()


def test_one_that_has_threads_is_not_confined() -> None:
    code = """\
import threading
from pathlib import Path
from forestall.adapters.linux.confinement import see_and_change_only
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    see_and_change_only(Path("/tmp"), Path("/tmp"))
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert "other threads" in done.stdout, done.stderr
