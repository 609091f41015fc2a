"""Where the trees begin that facts are read from; tests set up their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Roots:
    """The folders of a Linux host, each of them replaceable."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")
    dev: Path = Path("/dev")
    run: Path = Path("/run")
    usr: Path = Path("/usr")

    @classmethod
    def below(cls, folder: Path) -> Roots:
        """All of them in one folder."""
        return cls(**{name: folder / name for name in ("proc", "sys", "etc", "dev", "run", "usr")})

    def program(self, *names: str) -> str:
        """First of these programs that is installed; empty if none is."""
        for name in names:
            if any((self.usr / folder / name).exists() for folder in ("sbin", "bin", "libexec", "local/sbin")):
                return name
        return ""


def text_of(path: Path, most_bytes: int = 1 << 20) -> str:
    """Text of a small file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most_bytes).decode("utf-8", "replace")
    except OSError:
        return ""
