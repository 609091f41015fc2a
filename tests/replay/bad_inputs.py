"""Bad demand traces, one a case: what is wrong, the file, and how Forestall must answer.

The table is run through every command that reads a demand trace.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

START, STEP, ROWS = 1_372_630_200, 300, 240
Frame = pd.DataFrame


@dataclass(frozen=True)
class BadInputCase:
    """A bad trace: ``write(folder)`` returns the path to give to the command.

    ``exit_code`` is 2 when it must be refused, 0 when it must be repaired or kept; ``texts`` all stand in one
    """

    name: str
    write: Callable[[Path], Path]
    exit_code: int
    texts: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def good_frame() -> Frame:
    """Two VMs, 120 rows each, sorted by VM and time."""
    rng = np.random.default_rng(7)
    half = ROWS // 2
    at = START + STEP * np.arange(half)
    return pd.DataFrame(
        {
            "vm_id": ["a"] * half + ["b"] * half,
            "timestamp": np.concatenate([at, at]),
            "cpu_cores": rng.uniform(0.1, 1.9, ROWS).round(4),
            "cpu_limit_cores": 2.0,
            "mem_bytes": rng.uniform(1e8, 9e8, ROWS).round(),
            "mem_limit_bytes": 1e9,
            "net_rx_bytes_per_s": rng.uniform(0, 1e6, ROWS).round(),
        }
    )


CASES: list[BadInputCase] = []


def _case(name: str, exit_code: int, *texts: str) -> Callable[[Callable[[Path], Path]], None]:
    return lambda write: CASES.append(BadInputCase(name, write, exit_code, texts))


def _changed(name: str, exit_code: int, *texts: str, to: str = "t.csv") -> Callable[[Callable[[Frame], Frame]], None]:
    """Add a case that changes the good frame and writes it as CSV or Parquet."""

    def add(change: Callable[[Frame], Frame]) -> None:
        def write(folder: Path) -> Path:
            path = folder / to
            frame = change(good_frame())
            frame.to_parquet(path) if to.endswith("parquet") else frame.to_csv(path, index=False)
            return path

        CASES.append(BadInputCase(name, write, exit_code, texts))

    return add


def _put(column: str, row: int, value: object) -> Callable[[Frame], Frame]:
    """Put a value into a column at a row, counted from 1."""

    def change(frame: Frame) -> Frame:
        if not isinstance(value, int):
            frame[column] = frame[column].astype(object if isinstance(value, str) or value is None else float)
        frame.loc[row - 1, column] = value
        return frame

    return change


def _bytes(name: str, content: bytes, to: str, *texts: str) -> None:
    """Add a case whose file holds these bytes, and which must be refused."""

    def write(folder: Path) -> Path:
        (folder / to).write_bytes(content)
        return folder / to

    CASES.append(BadInputCase(name, write, 2, texts))


def _good_csv() -> bytes:
    return good_frame().to_csv(index=False).encode()


# The file itself -------------------------------------------------------------------------------------------

_case("a path that does not exist", 2, "nowhere.parquet", "no such file")(lambda d: d / "nowhere.parquet")
_case("an empty folder", 2, "no trace in this folder")(lambda d: d)
_bytes("an empty CSV", b"", "t.csv", "t.csv: is empty")
_bytes("an empty Parquet", b"", "t.parquet", "t.parquet: is empty")
_bytes("a header alone", b"vm_id,timestamp,cpu_cores,cpu_limit_cores\n", "t.csv", "t.csv: has no rows")
_bytes("text called Parquet", _good_csv(), "t.parquet", "t.parquet: cannot be read as Parquet")
_bytes("a name that says nothing", _good_csv(), "t.txt", "t.txt: is not one of .parquet, .csv, .csv.gz")
_bytes("text called gzip", _good_csv(), "t.csv.gz", "t.csv.gz: cannot be read as CSV")
_bytes("a gzip cut short", gzip.compress(_good_csv())[:-900], "t.csv.gz", "t.csv.gz: cannot be read as CSV")
_bytes("random bytes", np.random.default_rng(1).bytes(4000), "t.csv", "t.csv: ")
_bytes("not UTF-8", _good_csv().replace(b"\nb,", b"\n\xff\xfe,"), "t.csv", "t.csv: cannot be read as CSV", "not UTF-8")
_bytes("semicolons", _good_csv().replace(b",", b";"), "t.csv", "separated by ';', expected ','")
_bytes("a row too short", _good_csv() + b"b,1372700000,1\n", "t.csv", "row 241: has 3 values", "7 columns")
_bytes("a row too long", _good_csv() + b"b,1,1,1,1,1,1,1\n", "t.csv", "row 241: has 8 values", "7 columns")
_bytes("an HTML page", b"<!doctype html>\n<html><body>Not found</body></html>\n", "t.csv", "t.csv: column vm_id")


@_case("a Parquet cut short", 2, "t.parquet: cannot be read as Parquet")
def _(folder: Path) -> Path:
    path = folder / "t.parquet"
    good_frame().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-300])
    return path


@_case("a Parquet with a page overwritten", 2, "t.parquet: cannot be read as Parquet")
def _(folder: Path) -> Path:
    path = folder / "t.parquet"
    good_frame().to_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:600] = b"\xff" * 596
    path.write_bytes(content)
    return path


@_case("a folder without a trace in it", 2, "no trace in this folder")
def _(folder: Path) -> Path:
    (folder / "readme.md").write_text("nothing here")
    return folder


@_case("a folder called .parquet", 2, "no trace in this folder")
def _(folder: Path) -> Path:
    (folder / "t.parquet").mkdir()
    return folder / "t.parquet"


@_case("a link that leads to itself", 2, "t.csv: ", "symbolic links")
def _(folder: Path) -> Path:
    (folder / "t.csv").symlink_to(folder / "t.csv")
    return folder / "t.csv"


@_case("a pipe", 2, "t.csv: is neither a regular file nor a folder")
def _(folder: Path) -> Path:
    os.mkfifo(folder / "t.csv")
    return folder / "t.csv"


@_case("a folder whose second file is bad", 2, "2.csv: row 3, column cpu_cores: 'x' is not a number")
def _(folder: Path) -> Path:
    good_frame().to_csv(folder / "1.csv", index=False)
    _put("cpu_cores", 3, "x")(good_frame()).to_csv(folder / "2.csv", index=False)
    return folder


# The header ------------------------------------------------------------------------------------------------

_changed("no vm_id", 2, "column vm_id: is missing")(lambda f: f.drop(columns="vm_id"))
_changed("no timestamp", 2, "column timestamp: is missing")(lambda f: f.drop(columns="timestamp"))
_changed("no cpu_cores", 2, "column cpu_cores: is missing")(lambda f: f.drop(columns="cpu_cores"))
_changed("no CPU limit", 2, "column cpu_limit_cores: is missing")(lambda f: f.drop(columns="cpu_limit_cores"))
_changed("no memory limit", 2, "column mem_limit_bytes: is missing")(lambda f: f.drop(columns="mem_limit_bytes"))
_changed("memory limit alone", 2, "column mem_bytes: is missing")(lambda f: f.drop(columns="mem_bytes"))
_changed("a misspelt column", 2, "column cpu_cores: is missing (did you mean 'cpu_core'?)")(
    lambda f: f.rename(columns={"cpu_cores": "cpu_core"})
)
_changed("a column in capitals", 2, "column timestamp: is missing (did you mean 'Timestamp'?)", to="t.parquet")(
    lambda f: f.rename(columns={"timestamp": "Timestamp"})
)
_changed("an optional column misspelt", 0, "column net_rx_byte_per_s: is not known and is left out (did you mean")(
    lambda f: f.rename(columns={"net_rx_bytes_per_s": "net_rx_byte_per_s"})
)
_changed("a column twice", 2, "column cpu_cores: stands twice in the header")(
    lambda f: f.set_axis([*f.columns[:-1], "cpu_cores"], axis=1)
)

# VM ids and timestamps -------------------------------------------------------------------------------------

_changed("an empty vm_id", 2, "t.csv: row 5, column vm_id: is empty")(_put("vm_id", 5, ""))
_changed("a null vm_id", 2, "t.parquet: row 5, column vm_id: is empty", to="t.parquet")(_put("vm_id", 5, None))
_changed("an empty timestamp", 2, "row 7, column timestamp: is empty")(_put("timestamp", 7, ""))
_changed("a timestamp of words", 2, "row 7, column timestamp: 'noon' is neither seconds nor an ISO 8601 date")(
    _put("timestamp", 7, "noon")
)
_changed("half a second", 2, "row 7, column timestamp: 1372632000.5 is not a whole number")(
    _put("timestamp", 7, 1372632000.5)
)
_changed("a NaN timestamp", 2, "row 7, column timestamp: ", to="t.parquet")(_put("timestamp", 7, float("nan")))
_changed("an infinite timestamp", 2, "row 7, column timestamp: inf", to="t.parquet")(_put("timestamp", 7, float("inf")))
_changed("a huge timestamp", 0, "repair: ", "row 7, column timestamp: left out", to="t.parquet")(
    _put("timestamp", 7, 2**62)
)
_changed("a negative timestamp", 2, "row 9, column timestamp: -300 is negative")(_put("timestamp", 9, -300))
_changed("a clock ten years ahead", 0, "repair: ", "row 9, column timestamp", "left out", "10.0 years")(
    _put("timestamp", 9, START + 10 * 365 * 86400 + 86400 * 3)
)
_changed("a clock that starts at the epoch", 2, "row 1, column timestamp: 0 lies 43.5 years before the next")(
    _put("timestamp", 1, 0)
)
_changed("one row in milliseconds", 0, "repair: ", "row 9, column timestamp", "left out")(
    _put("timestamp", 9, START * 1000)
)


@_changed("a clock ten years ahead for a whole VM", 2, "row 121, column timestamp", "10.0 years", "clock")
def _(frame: Frame) -> Frame:
    frame.loc[frame.vm_id == "b", "timestamp"] += 315_576_000
    return frame


@_changed("milliseconds", 0, "repair: ", "row 1, column timestamp: milliseconds, divided by 1000")
def _(frame: Frame) -> Frame:
    return frame.assign(timestamp=frame.timestamp * 1000)


@_changed("seconds and milliseconds", 2, "row 121, column timestamp", "clock")
def _(frame: Frame) -> Frame:
    frame.loc[frame.vm_id == "b", "timestamp"] *= 1000
    return frame


@_changed("a silence of 300 days at one second a step", 2, "row 121, column timestamp", "widest silence")
def _(frame: Frame) -> Frame:
    at = START + np.arange(ROWS)
    return frame.assign(vm_id="a", timestamp=np.where(np.arange(ROWS) < 120, at, at + 300 * 86400))


@_changed("off the grid by seconds", 0, "repair: ", "column timestamp: off the grid of 300 s")
def _(frame: Frame) -> Frame:
    return frame.assign(timestamp=frame.timestamp + np.random.default_rng(2).integers(-9, 10, ROWS))


@_changed("two rows in one interval", 0, "repair: ", "row 10, column timestamp: shares its interval")
def _(frame: Frame) -> Frame:
    frame.loc[10, "timestamp"] = frame.loc[9, "timestamp"] + 20
    return frame


@_changed("duplicate rows", 0, "repair: ", "row 4: vm_id and timestamp stand there again", "(2 in all)")
def _(frame: Frame) -> Frame:
    return pd.concat([frame, frame.iloc[[3, 130]].assign(cpu_cores=0.5)])


@_changed("rows out of order", 0, "repair: ", "sorted by time")
def _(frame: Frame) -> Frame:
    return frame.sample(frac=1, random_state=3)


@_changed("a column of lists", 2, "column cpu_cores: holds list", to="t.parquet")
def _(frame: Frame) -> Frame:
    return frame.assign(cpu_cores=[[1.0]] * ROWS)


@_changed("a column of truth values", 2, "column cpu_cores: holds bool", to="t.parquet")
def _(frame: Frame) -> Frame:
    return frame.assign(cpu_cores=True)


# Numbers ---------------------------------------------------------------------------------------------------

_changed("a word for a number", 2, "t.csv: row 17, column cpu_cores: 'lots' is not a number")(
    _put("cpu_cores", 17, "lots")
)
_changed("a decimal comma", 2, "row 17, column mem_bytes: '1,5' is not a number")(_put("mem_bytes", 17, "1,5"))
_changed("text in Parquet", 2, "row 17, column cpu_cores: '1.5 GHz' is not a number", to="t.parquet")(
    lambda f: _put("cpu_cores", 17, "1.5 GHz")(f).astype({"cpu_cores": str})
)
_changed("negative demand", 0, "repair: ", "row 17, column cpu_cores: negative, treated as a gap (1 in all)")(
    _put("cpu_cores", 17, -1.0)
)
_changed("infinite demand", 0, "repair: ", "row 17, column mem_bytes: infinite, treated as a gap")(
    _put("mem_bytes", 17, float("inf"))
)
_changed("a negative limit", 0, "repair: ", "row 17, column cpu_limit_cores: negative, treated as a gap")(
    _put("cpu_limit_cores", 17, -2.0)
)
_changed("nothing but gaps", 2, "has no demand in any row")(
    lambda f: f.assign(cpu_cores=np.nan, mem_bytes=np.nan, net_rx_bytes_per_s=np.nan)
)
_changed("an empty limit", 2, "column cpu_limit_cores: is empty although cpu_cores is not")(
    lambda f: f.assign(cpu_limit_cores=np.nan)
)
_changed("a VM without a sample", 0, "repair: ", "row 121: left out, its VM has no demand")(
    lambda f: f.assign(**{c: f[c].where(f.vm_id == "a") for c in ("cpu_cores", "mem_bytes", "net_rx_bytes_per_s")})
)
_changed("a VM without a limit", 0, "warning: ", "column cpu_limit_cores: no limit for 1 VMs (first: b)")(
    lambda f: f.assign(cpu_limit_cores=f.cpu_limit_cores.where(f.vm_id == "a"))
)
_changed("an outlier a million times too high", 0, "warning: ", "row 17, column cpu_cores", "outlier", "kept")(
    _put("cpu_cores", 17, 1.2e6)
)
_changed("an outlier where there is no limit", 0, "warning: ", "row 17, column net_rx_bytes_per_s", "outlier")(
    _put("net_rx_bytes_per_s", 17, 5e11)
)
_changed("limits in other units", 0, "warning: ", "column mem_limit_bytes: is below mem_bytes", "wrong units?")(
    lambda f: f.assign(mem_limit_bytes=1024.0)
)
_changed("a peak below the mean", 0, "warning: ", "row 1, column cpu_peak_cores", "below the mean")(
    lambda f: f.assign(cpu_peak_cores=f.cpu_cores / 2)
)
_changed("a single row", 0, "warning: ", "no VM has two rows", "300 s")(lambda f: f.iloc[:1])


def good_file(folder: Path) -> Path:
    """Write the good frame; every command must take it without a word."""
    path = folder / "good.parquet"
    pq.write_table(pa.Table.from_pandas(good_frame(), preserve_index=False), path)
    return path
