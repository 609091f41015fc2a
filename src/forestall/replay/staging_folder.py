"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forestall.model.errors import WrongUse

OUTPUTS = (
    "allocations.parquet",
    "forecasts.parquet",
    "risk.parquet",
    "decisions.parquet",
    "scores.parquet",
    "grants.parquet",
    "prefetches.parquet",
    "staging.parquet",
    "routes.parquet",
    "summary.json",
    "report.html",
)
"""Files that a replay writes; folders named ``budget-*`` are its own too."""


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; its content moves into ``path`` when the block ends well.

    If the block fails, ``path`` is as it was before. What an earlier run wrote (:data:`OUTPUTS`) is removed, so that no
    old file stands beside new ones; other files in ``path`` are left alone.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise WrongUse(f"{path}: is a file; --out names a folder")
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    except OSError as error:
        raise WrongUse(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield partial
        partial.chmod(0o755)
        _move(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    if not target.exists():
        os.replace(source, target)
        return
    for name in OUTPUTS:
        (target / name).unlink(missing_ok=True)
    for old in target.glob("budget-*"):
        shutil.rmtree(old)
    for item in sorted(source.iterdir()):
        place = target / item.name
        if item.is_dir():
            _move(item, place)
        else:
            os.replace(item, place)
