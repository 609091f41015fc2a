"""A state folder in one file: a tar archive compressed with Zstandard, whose last member says what must be in it.

``manifest.json`` has the version of Forestall, when it was made, where, and size and SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from forestall.adapters.files.writing import sync_folder
from forestall.model.errors import BadInput, StoreError

MANIFEST, FORMAT = "manifest.json", 1
MOST_MANIFEST_BYTES = 64 << 20
_PIECE = 1 << 20


def write_archive(
    out: Path, files: Mapping[str, Path], about: Mapping[str, Any], needed: frozenset[str]
) -> dict[str, Any]:
    """Write files, by the names that they have in the archive; whole or not at all, for its owner alone.

    What is appended to meanwhile is taken as far as it was, lines only whole; what has gone meanwhile is left out,
    unless it is ``needed``.

    Raises
    ------
    StoreError
        Something cannot be read or written.
    """
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    manifest: dict[str, Any] = {**about, "format": FORMAT, "files": {}}
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            with (
                zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed,
                tarfile.open(mode="w|", fileobj=packed) as archive,
            ):
                for name, path in files.items():
                    with suppress(*() if name in needed else (FileNotFoundError,)):
                        manifest["files"][name] = _add(archive, name, path)
                told = json.dumps(manifest).encode()
                archive.addfile(_member(MANIFEST, len(told)), io.BytesIO(told))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, out)
        sync_folder(out.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise StoreError(f"{error.filename or out}: {error.strerror or error}") from error
    return manifest


def read_archive(path: Path, folder: Path | None = None, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Look whether everything is in an archive, unchanged; and, with a folder, write it there.

    Parameters
    ----------
    folder
        A new one; None: only look.
    leave_out
        First parts of names that are not written.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    BadInput
        It is no such archive, of a newer form, or not as it was written.
    StoreError
        Something cannot be read or written.
    """
    seen: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    with _refused(path), path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        with tarfile.open(mode="r|", fileobj=reader) as archive:
            for member in archive:
                name = _safe(member, path)
                content = archive.extractfile(member)
                assert content is not None, "it is a plain file"
                if name == MANIFEST:
                    manifest = json.loads(content.read(MOST_MANIFEST_BYTES))
                    continue
                wanted = folder is not None and PurePosixPath(name).parts[0] not in leave_out
                with _opened(folder / name) if folder is not None and wanted else _nowhere() as target:
                    seen[name] = _copy(content, target)
    return _compared(path, manifest, seen)


def _compared(path: Path, manifest: Any, seen: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise BadInput("is not whole: the list of its files is missing", path=path)
    if manifest.get("format") != FORMAT:
        raise BadInput(f"is of another form ({manifest.get('format')}; this version reads {FORMAT})", path=path)
    stated = manifest["files"]
    for name in sorted(stated.keys() | seen.keys()):
        if stated.get(name) != seen.get(name):
            raise BadInput(f"{name} is not as it was written", path=path)
    return manifest


def _add(archive: tarfile.TarFile, name: str, path: Path) -> dict[str, Any]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(path)
        size = _whole_lines(file, found.st_size) if path.suffix == ".jsonl" else found.st_size
        heard = _Heard(file, size)
        archive.addfile(_member(name, size), heard)
        return {"size": size, "sha256": heard.digest.hexdigest()}


class _Heard(io.RawIOBase):
    """Reads so much of a file, and takes its digest."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__()
        self._file, self._left, self.digest = file, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(part)
        self.digest.update(part)
        return part


def _whole_lines(file: IO[bytes], size: int) -> int:
    """How much of it are whole lines; the place in the file stays at its beginning."""
    end = size
    while end > 0:
        begin = max(end - _PIECE, 0)
        file.seek(begin)
        if (at := file.read(end - begin).rfind(b"\n")) >= 0:
            file.seek(0)
            return begin + at + 1
        end = begin
    file.seek(0)
    return 0


def _copy(content: IO[bytes], target: IO[bytes]) -> dict[str, Any]:
    digest, copied = hashlib.sha256(), 0
    while part := content.read(_PIECE):
        digest.update(part)
        target.write(part)
        copied += len(part)
    return {"size": copied, "sha256": digest.hexdigest()}


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _safe(member: tarfile.TarInfo, path: Path) -> str:
    """Name of a member that stays in the folder."""
    parts = PurePosixPath(member.name).parts
    if not parts or member.name.startswith("/") or ".." in parts or not member.isreg():
        raise BadInput(f"{member.name!r} does not belong into such an archive", path=path)
    return str(PurePosixPath(*parts))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _nowhere() -> Iterator[IO[bytes]]:
    with open(os.devnull, "wb") as file:
        yield file


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (zstandard.ZstdError, tarfile.TarError, EOFError, ValueError) as error:
        raise BadInput(f"is no backup of Forestall, or is damaged: {error}", path=path) from error
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error
