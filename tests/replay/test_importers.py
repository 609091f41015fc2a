"""Small files in the format of each public trace, read and checked value by value."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from forestall.cli import main
from forestall.model.errors import BadInput, ForestallError
from forestall.model.resources import Resource
from forestall.model.samples import Grid
from forestall.replay.importers import alibaba, azure, bitbrains, planetlab, prometheus, table
from forestall.replay.importers.formats import FORMATS
from forestall.replay.trace_reader import read_trace

BITBRAINS_HEADER = ";\t".join(
    [
        "Timestamp [ms]",
        "CPU cores",
        "CPU capacity provisioned [MHZ]",
        "CPU usage [MHZ]",
        "CPU usage [%]",
        "Memory capacity provisioned [KB]",
        "Memory usage [KB]",
        "Disk read throughput [KB/s]",
        "Disk write throughput [KB/s]",
        "Network received throughput [KB/s]",
        "Network transmitted throughput [KB/s]",
    ]
)


def quiet(_: str) -> None:
    """Take no notice of repairs."""


def write_bitbrains(folder: Path, unit: int = 1) -> Path:
    for name, cores in (("1", 4), ("2", 2)):
        rows = [BITBRAINS_HEADER]
        for i in range(4):
            off = name == "2" and i == 3
            mhz, used = (0, 0) if off else (2600 * cores, 1300)
            row = [(1376314800 + 300 * i) * unit, cores, mhz, used, 12.5, 2048, 1024.0, 1.5, 0, 2, 3]
            rows.append(";\t".join(str(v) for v in row))
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("unit", [1, 1000])
def test_bitbrains(tmp_path: Path, unit: int) -> None:
    trace = bitbrains.read(write_bitbrains(tmp_path, unit), warn=quiet)
    assert trace.grid == Grid(1376314800, 300, 4)
    assert trace.vm_ids == ("1", "2")
    assert trace.demand[Resource.CPU].T.tolist() == [[0.5] * 4, [0.5, 0.5, 0.5, 0.0]]
    assert trace.limit[Resource.CPU].T.tolist() == [[4.0] * 4, [2.0, 2.0, 2.0, 0.0]]
    assert trace.demand[Resource.MEMORY][0, 0] == 1024 * 1024
    assert trace.limit[Resource.MEMORY][0, 0] == 2048 * 1024
    assert [trace.demand[r][0, 0] for r in list(Resource)[2:]] == [1536.0, 0.0, 2048.0, 3072.0]


def test_bitbrains_names_file_row_and_column(tmp_path: Path) -> None:
    path = write_bitbrains(tmp_path) / "2.csv"
    path.write_text(path.read_text().replace("\t1300;", "\tmany;", 1))
    with pytest.raises(BadInput, match=r"2.csv: row 1, column CPU usage \[MHZ\]: 'many' is not a number"):
        bitbrains.read(tmp_path)
    path.write_text("Timestamp [ms];\tCPU cores\n1;\t2\n")
    with pytest.raises(BadInput, match=r"column CPU capacity provisioned \[MHZ\]: is missing"):
        bitbrains.read(tmp_path)


def write_azure(folder: Path) -> Path:
    for part in range(2):
        rows = [f"{600 * part + 300 * i},{vm},1.0,{50 + i},{25.0}\n" for i in range(2) for vm in ("x=", "y/", "z")]
        path = folder / f"vm_cpu_readings-file-{part + 1}-of-2.csv.gz"
        path.write_bytes(gzip.compress("".join(rows).encode()))
    return folder


def test_azure(tmp_path: Path) -> None:
    readings = write_azure(tmp_path)
    (tmp_path / "vmtable.csv").write_text("x=,s,d,0,9,99,50,90,Unknown,4,32\ny/,s,d,0,9,99,50,90,Delay,>24,>64\n")
    plain = azure.read(readings, warn=quiet)
    assert (plain.grid, plain.vm_ids, plain.calendar) == (Grid(0, 300, 4), ("x=", "y/", "z"), False)
    assert (plain.demand[Resource.CPU] == 0.25).all()
    sized = azure.read(readings, vmtable=tmp_path / "vmtable.csv", warn=quiet)
    assert sized.limit[Resource.CPU][0].tolist() == [4.0, 24.0, 1.0]
    assert sized.demand[Resource.CPU][0].tolist() == [1.0, 6.0, 0.25]
    assert sized.cpu_peak is not None
    assert sized.cpu_peak[:, 0].tolist() == [2.0, 2.04, 2.0, 2.04]
    assert azure.read(readings, max_vms=2, warn=quiet).vm_ids == ("x=", "y/")


def test_azure_with_a_header_in_the_table_and_a_bad_bucket(tmp_path: Path) -> None:
    readings = write_azure(tmp_path)
    names = "vmid,subscriptionid,deploymentid,vmcreated,vmdeleted,maxcpu,avgcpu,p95maxcpu,vmcategory,"
    vmtable = tmp_path / "vmtable.csv"
    vmtable.write_text(f"{names}vmcorecount,vmmemory\nx=,s,d,0,9,99,50,90,Unknown,2,3.5\n")
    assert azure.read(readings, vmtable=vmtable, warn=quiet).limit[Resource.CPU][0, 0] == 2.0
    vmtable.write_text("x=,s,d,0,9,99,50,90,Unknown,many,3.5\n")
    with pytest.raises(BadInput, match="row 1, column vmcorecount: 'many' is not a number of cores"):
        azure.read(readings, vmtable=vmtable)


def test_alibaba(tmp_path: Path) -> None:
    path = tmp_path / "machine_usage.csv"
    rows = [f"m_{m},{10 * i},{20 + 10 * m},{40 if i % 2 else 60},,,1.5,2.5,3\n" for m in (1, 2) for i in range(60)]
    rows[3] = "m_1,30,101,-1,,,1,1,1\n"
    path.write_text("".join(reversed(rows)))
    trace = alibaba.read(path, cores=10, memory_gib=1, warn=quiet)
    assert (trace.grid, trace.vm_ids) == (Grid(0, 300, 2), ("m_1", "m_2"))
    np.testing.assert_allclose(trace.demand[Resource.CPU], [[3.0, 4.0], [3.0, 4.0]])
    np.testing.assert_allclose(trace.demand[Resource.MEMORY][1], 0.5 * 2**30)
    assert (trace.limit[Resource.CPU] == 10).all()
    assert alibaba.read(path, step_seconds=10, max_vms=1, warn=quiet).grid == Grid(0, 10, 60)
    path.write_text("".join(rows[:5]) + "m_1,x,1,1,,,1,1,1\n")
    with pytest.raises(BadInput, match=r"machine_usage\.csv: row 6, column time_stamp: 'x' is not a number"):
        alibaba.read(path)


def test_planetlab(tmp_path: Path) -> None:
    for day, level in (("20110303", 10), ("20110306", 30)):
        (tmp_path / day).mkdir()
        for vm in ("host_a", "host_b"):
            (tmp_path / day / vm).write_text("\n".join(str(level + i % 2) for i in range(288)) + "\n")
    trace = planetlab.read(tmp_path, cores=2, warn=quiet)
    assert trace.grid == Grid(1299110400, 300, 4 * 288)
    assert trace.vm_ids == ("host_a", "host_b")
    assert trace.demand[Resource.CPU][[0, 1, -2, -1], 0].tolist() == [0.2, 0.22, 0.6, 0.62]
    assert np.isnan(trace.demand[Resource.CPU][288:864]).all()
    one = planetlab.read(tmp_path / "20110303", warn=quiet)
    assert (one.grid, one.calendar) == (Grid(1299110400, 300, 288), True)
    (tmp_path / "20110303" / "host_b").write_text("1\n2\n101\n")
    with pytest.raises(BadInput, match="host_b: row 3: '101' is not a whole percentage"):
        planetlab.read(tmp_path)
    (tmp_path / "20110303" / "host_b").write_text("1\n" * 289)
    with pytest.raises(BadInput, match="host_b: row 289: has more than the 288 readings"):
        planetlab.read(tmp_path)


def test_a_table_with_a_column_map(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    rows = [{"host": "h", "time": 600 + 60 * i, "pct": 50 + i, "net_rx_bytes_per_s": 7} for i in range(10)]
    pd.DataFrame(rows).to_csv(path, index=False)
    column_map = ["vm_id=host", "timestamp=time", "cpu_cores=pct*0.01", "cpu_limit_cores=2"]
    trace = table.read(path, column_map=column_map, warn=quiet)
    assert trace.grid == Grid(600, 60, 10)
    np.testing.assert_allclose(trace.demand[Resource.CPU][:2, 0], [0.5, 0.51])
    assert (trace.limit[Resource.CPU] == 2).all()
    assert (trace.demand[Resource.NET_RX] == 7).all()
    resampled = table.read(path, column_map=column_map, step_seconds=300, warn=quiet)
    assert resampled.grid == Grid(600, 300, 2)
    np.testing.assert_allclose(resampled.demand[Resource.CPU][:, 0], [0.52, 0.57])
    with pytest.raises(BadInput, match="column nodename: is missing, the file has host, time"):
        table.read(path, column_map=["vm_id=nodename"])


class FakePrometheus(BaseHTTPRequestHandler):
    """Answers range queries about two domains as Prometheus does; keeps what it was asked."""

    asked: list[dict[str, str]]
    levels = {  # noqa: RUF012
        "libvirt_domain_info_cpu_time_seconds_total": (1.5, 0.5),
        "libvirt_domain_info_virtual_cpus": (4, 2),
        "libvirt_domain_info_memory_usage_bytes": (1000, 500),
        "libvirt_domain_memory_stats_usable_bytes": (300, None),
        "libvirt_domain_info_maximum_memory_bytes": (2000, 500),
        "libvirt_domain_block_stats_read_bytes_total": (11, 12),
        "libvirt_domain_interface_stats_receive_bytes_total": (13, 14),
    }

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {k: v[0] for k, v in parse_qs(url.query).items()}
        self.asked.append(asked)
        if "by (1)" in asked["query"]:
            self.answer(400, {"status": "error", "error": "bad_data: parse error"})
            return
        start, end, step = (int(asked[k]) for k in ("start", "end", "step"))
        if (end - start) // step + 1 > 11_000:
            self.answer(400, {"status": "error", "error": "exceeded maximum resolution of 11,000 points"})
            return
        levels = next((v for k, v in self.levels.items() if k in asked["query"]), ())
        result = [
            {"metric": {"domain": name}, "values": [[t, str(level)] for t in range(start, end + 1, step)]}
            for name, level in zip(("web", "db"), levels, strict=False)
            if level is not None
        ]
        self.answer(200, {"status": "success", "data": {"resultType": "matrix", "result": result}})

    def answer(self, code: int, body: dict[str, Any]) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A Prometheus on 127.0.0.1: its URL, and the list of what it is asked."""
    handler = type("Handler", (FakePrometheus,), {"asked": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", handler.asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_prometheus(server: tuple[str, list[dict[str, str]]]) -> None:
    url, asked = server
    trace = prometheus.read(url, start="1700000100", end="2023-11-14T23:15:00Z", step_seconds=300, warn=quiet)
    assert (trace.grid, trace.vm_ids) == (Grid(1700000100, 300, 12), ("db", "web"))
    assert trace.demand[Resource.CPU][0].tolist() == [0.5, 1.5]
    assert trace.limit[Resource.CPU][0].tolist() == [2.0, 4.0]
    assert trace.demand[Resource.MEMORY][0].tolist() == [500.0, 700.0]
    assert trace.limit[Resource.MEMORY][0].tolist() == [500.0, 2000.0]
    assert trace.resources == (Resource.CPU, Resource.MEMORY, Resource.DISK_READ, Resource.NET_RX)
    assert asked[0]["query"] == "sum by (domain) (rate(libvirt_domain_info_cpu_time_seconds_total[300s]))"
    assert asked[0]["start"] == "1700000400"


def test_prometheus_is_asked_for_long_ranges_in_parts(server: tuple[str, list[dict[str, str]]]) -> None:
    url, asked = server
    trace = prometheus.read(url, start="0", end=str(10 * 11_000), step_seconds=10, warn=quiet)
    assert trace.grid == Grid(0, 10, 11_000)
    ranges = [(int(a["start"]), int(a["end"])) for a in asked if "cpu_time" in a["query"]]
    assert ranges == [(10, 100_000), (100_010, 110_000)]


def test_prometheus_that_is_gone_or_is_something_else(server: tuple[str, list[dict[str, str]]]) -> None:
    url, _ = server
    with pytest.raises(BadInput, match="has no libvirt_domain_info_cpu_time_seconds_total with the label 'vm'"):
        prometheus.read(url, start="0", end="3000", label="vm")
    with pytest.raises(BadInput, match="answers 400 Bad Request: bad_data: parse error"):
        prometheus.read(url, start="0", end="3000", label="1")
    with pytest.raises(ForestallError, match="cannot be reached") as caught:
        prometheus.read("http://127.0.0.1:1", start="0", end="3000")
    assert caught.value.exit_code == 1


def test_every_format_is_imported_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: tuple[str, list[dict[str, str]]]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    out = tmp_path / "out.parquet"
    assert main(["trace", "import", "bitbrains", str(write_bitbrains(source)), "--out", str(out), "--step", "600"]) == 0
    assert read_trace(out).grid == Grid(1376314800, 600, 2)
    url, _ = server
    assert main(["trace", "import", "prometheus", url, "--start", "0", "--end", "3000", "--out", str(out)]) == 0
    assert read_trace(out).vm_ids == ("db", "web")
    assert capsys.readouterr().err == ""
    assert main(["trace", "import", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in FORMATS)
