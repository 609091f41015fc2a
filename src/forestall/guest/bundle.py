"""Makes the agent one file that Python runs: see zipapp. Not part of that file."""

from __future__ import annotations

import tempfile
import zipapp
from importlib.resources import files
from pathlib import Path

INTERPRETER = "/usr/bin/python3 -sSE"
LEFT_OUT = ("bundle.py",)
PACKAGE = Path("forestall", "guest")


def write_bundle(target: Path) -> None:
    """Write the agent to ``target``, to be run as it is; replaces what is there, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / PACKAGE
        package.mkdir(parents=True)
        (package.parent / "__init__.py").touch()
        for source in files("forestall.guest").iterdir():
            if source.name.endswith(".py") and source.name not in LEFT_OUT:
                (package / source.name).write_bytes(source.read_bytes())
        fresh = target.with_name(target.name + ".new")
        main = "forestall.guest.__main__:main"
        zipapp.create_archive(folder, fresh, INTERPRETER, main, compressed=True)
        fresh.chmod(0o755)
        fresh.replace(target)
