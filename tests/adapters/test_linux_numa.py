"""NUMA nodes of a host that is built of files, and populating on a node of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapters.linux.numa import Nodes, close_to


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Two nodes of four CPUs."""
    for node, cpus in ((0, "0-1,4-5"), (1, "2-3,6-7\n")):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus)
    return tmp_path


def run_on(host: Path, pid: int, *cpus: int) -> None:
    """Threads of a process ran on these CPUs last."""
    for thread, cpu in enumerate(cpus):
        folder = host / f"proc/{pid}/task/{thread}"
        folder.mkdir(parents=True)
        fields = ["S", *["0"] * 35, str(cpu), "0"]
        (folder / "stat").write_text(f"{thread} (CPU 0/KVM) {' '.join(fields)}")


def test_a_process_is_where_most_of_its_threads_ran(host: Path) -> None:
    run_on(host, 7, 2, 6, 0)
    run_on(host, 8, 4, 5, 3)
    nodes = Nodes(host)
    assert nodes.several
    assert (nodes.of(7), nodes.of(8), nodes.of(9)) == (1, 0, None)


def test_where_there_is_one_node_it_makes_no_difference(tmp_path: Path) -> None:
    assert not Nodes(tmp_path).several
    folder = tmp_path / "sys/devices/system/node/node0"
    folder.mkdir(parents=True)
    (folder / "cpulist").write_text("0-7")
    run_on(tmp_path, 7, 1)
    assert Nodes(tmp_path).of(7) is None


def test_the_policy_of_the_thread_is_set_and_back_again() -> None:
    def policy() -> str:
        import ctypes
        import platform

        mode = ctypes.c_int(-1)
        number = {"x86_64": 239, "aarch64": 236}[platform.machine()]
        assert ctypes.CDLL(None).syscall(number, ctypes.byref(mode), None, 0, None, 0) == 0
        return {0: "default", 1: "preferred"}[mode.value]

    assert policy() == "default"
    with close_to(0) as done:
        if not done:
            pytest.skip("this kernel knows no memory policies")
        assert policy() == "preferred"
    assert policy() == "default"
    with close_to(None) as done:
        assert not done
