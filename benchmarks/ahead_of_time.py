"""A daily burst between two VMs: what a probe of two others sees of its first ten seconds, with and without foresight.

    python benchmarks/ahead_of_time.py [RUNS]

A leaf-spine network of Open vSwitch, links of 20 Mbit/s. A VM sends 10 Mbit/s to another all the time; a second pair
sends 18 Mbit/s for 15 s, as it has on each of the last seven days at this time. A probe asks across the network every
5 ms. The same loop runs once with that history and once without: without, it reacts to what it measures each second.
The burst and the probe go to addresses whose connections switches put onto the path of the steady pair, as would happen
by chance half of the time. To find them a little is sent; the loop is started anew after that and knows nothing of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from forestall.lab import talk
from forestall.lab.leaf_spine import Host, LeafSpine, started
from forestall.service.control import ask

RATE = 2_500_000
TRIED_SECONDS = 0.3
SETTLE_SECONDS, BURST_SECONDS, LOOKED_AT_SECONDS = 12.0, 15.0, 10.0
DAY, STEP, DAYS = 86_400, 300, 7
SETTINGS = """\
mode = "enforce"
state_folder = "{folder}/state"

[fabric]
listen = "punix:{network}/openflow.sock"
databases = ["{database}"]
step_seconds = {step}
link_bytes_per_s = {rate}
queues = "auto"
"""


def history(path: Path, now: float) -> None:
    """Write down what was sent on the last days: the steady pair always, the burst at this time of the day."""
    rows = []
    begins = int(now // STEP) * STEP
    for at in range(begins - DAYS * DAY, begins, STEP):
        rows.append((at, "vm-01", "vm-11", 0.5 * RATE))
        rows.append((at, "vm-02", "vm-12", 10_000.0))
        if (at - begins) % DAY in (0, STEP):
            rows.append((at, "vm-00", "vm-10", 0.9 * RATE))
    columns = zip(*rows, strict=True)
    names = ("timestamp", "source", "target", "bytes_per_s")
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path)


def run(foresees: bool) -> dict[str, object]:
    """One burst."""
    with LeafSpine(Path(tempfile.mkdtemp(prefix="fs-ahead", dir="/run")) / "n", hosts=3) as network:
        return _run(network, foresees)


def _run(network: LeafSpine, foresees: bool) -> dict[str, object]:
    hosts = {host.name: host for host in network.hosts}
    network.listen_to(f"unix:{network.folder}/openflow.sock")
    with _loop(network, step_seconds=60.0):  # that it plans only once
        of_burst, of_probe = (_by_spine(network, hosts[f"vm-0{k}"], hosts[f"vm-1{k}"]) for k in (0, 2))
    with _loop(network, foresees=foresees) as folder:
        with _pouring(hosts["vm-01"], hosts["vm-11"], SETTLE_SECONDS + BURST_SECONDS):
            time.sleep(SETTLE_SECONDS / 2)
            busy = _ways(folder, "vm-01", "vm-11")[0].split()[0]
            with _talking(hosts["vm-12"], "echo", of_probe[busy], 9_001, SETTLE_SECONDS + BURST_SECONDS):
                time.sleep(SETTLE_SECONDS / 2)
                before = _ways(folder, "vm-00", "vm-10"), _ways(folder, "vm-01", "vm-11")
                probe = _talk(hosts["vm-02"], "probe", of_probe[busy], 9_001, LOOKED_AT_SECONDS, 5.0)
                sink = _talk(hosts["vm-10"], "sink", of_burst[busy], 9_002, LOOKED_AT_SECONDS)
                with _talking(hosts["vm-00"], "pour", of_burst[busy], 9_002, BURST_SECONDS, 0.9 * RATE):
                    seen, arrived = json.loads(probe.communicate()[0]), json.loads(sink.communicate()[0])
                    after = _ways(folder, "vm-00", "vm-10"), _ways(folder, "vm-01", "vm-11")
        return {
            "foresees": foresees,
            "before": before,
            "after": after,
            "probe_lost": 1.0 - seen["answered"] / seen["asked"],
            "probe_median_ms": seen["median_ms"],
            "probe_p99_ms": seen["p99_ms"],
            "burst_arrived": arrived["bytes"] / (0.9 * RATE * LOOKED_AT_SECONDS),
        }


@contextmanager
def _loop(network: LeafSpine, *, step_seconds: float = 1.0, foresees: bool = False) -> Iterator[Path]:
    """Run the loop, with a state of its own, from when it has the network before it on."""
    folder = Path(tempfile.mkdtemp(prefix="loop", dir=network.folder))
    config = folder / "forestall.toml"
    config.write_text(
        SETTINGS.format(network=network.folder, folder=folder, database=network.database, rate=RATE, step=step_seconds)
    )
    command = [sys.executable, "-m", "forestall", "fabric", "run", "--config", str(config)]
    command += ["--namespace", str(network.namespace_path)]
    if foresees:
        history(folder / "past.parquet", time.time() + SETTLE_SECONDS)
        command += ["--history", str(folder / "past.parquet")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        _until(lambda: "is learned" in (folder / "log").read_text() if foresees else _shown(folder))
        _until(lambda: len([link for link in _shown(folder).get("links", []) if link["up"]]) == 8)
        yield folder
    finally:
        process.kill()
        process.wait()


def _by_spine(network: LeafSpine, source: Host, target: Host) -> dict[str, str]:
    """An address of the target for each spine, over which switches send what goes there where all ways are alike."""
    found = {}
    for ip in target.ips:
        before = {spine: _sent(network, spine) for spine in network.spines}
        _talk(source, "pour", ip, 9_009, TRIED_SECONDS, 0.2 * RATE).communicate()
        found[max(network.spines, key=lambda spine: _sent(network, spine) - before[spine])] = ip
    return found


def _sent(network: LeafSpine, spine: str) -> int:
    """Bytes that went to a spine."""
    path = f"/sys/class/net/{network.link('leaf0', spine)[0]}/statistics/tx_bytes"
    return int(subprocess.check_output(["ip", "netns", "exec", network.namespace, "cat", path]))


def _talk(host: Host, *words: object) -> subprocess.Popen[str]:
    return started(host, sys.executable, talk.__file__, *map(str, words))


@contextmanager
def _talking(host: Host, *words: object) -> Iterator[None]:
    process = _talk(host, *words)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def _pouring(source: Host, target: Host, seconds: float) -> AbstractContextManager[None]:
    """The steady pair."""
    return _talking(source, "pour", target.ip, 9_000, seconds, 0.5 * RATE)


def _shown(folder: Path) -> dict:
    state = folder / "state" / "fabric"
    return (ask(state, {"command": "fabric"}) or {}) if state.exists() else {}


def _ways(folder: Path, source: str, target: str) -> list[str]:
    pairs = [each for each in _shown(folder)["pairs"] if (each["source"], each["target"]) == (source, target)]
    return [f"{way['path'][1]} {way['share']:.0%}" for pair in pairs for way in pair["ways"]]


def _until(holds: object) -> None:
    ends_at = time.monotonic() + 120
    while not holds():  # type: ignore[operator]
        if time.monotonic() > ends_at:
            raise TimeoutError("the loop does not come up")
        time.sleep(0.1)


def main() -> None:
    """Run both, several times."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{os.cpu_count()} cores, {runs} runs each")
    for foresees in (True, False):
        found = [run(foresees) for _ in range(runs)]
        for each in found:
            print(json.dumps(each))
        for key in ("probe_lost", "probe_median_ms", "probe_p99_ms", "burst_arrived"):
            print(f"foresees={foresees} {key}: median {statistics.median(each[key] for each in found):.4g}")


if __name__ == "__main__":
    main()
