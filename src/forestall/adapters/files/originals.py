"""Original settings of VMs as files: one JSON file a VM, on the disk before the VM is changed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from forestall.adapters.files.writing import read_json, sync_folder, write_json
from forestall.model.errors import StoreError
from forestall.ports.hypervisor import VmSettings

LONGEST_NAME = 150
"""Longer names of files are cut, and end with a hash instead."""


class FileOriginals:
    """:class:`~forestall.ports.originals.Originals` in a folder.

    Parameters
    ----------
    folder
        Made at the first entry.
    warn
        Takes one line for each entry that cannot be read; the others are used nevertheless.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> None:
        self.folder, self._warn = folder, warn

    def keep(self, settings: VmSettings) -> VmSettings:
        """Keep how a VM is set, unless this incarnation of it has an entry; on the disk when this returns.

        Raises
        ------
        StoreError
            It cannot be written; or the VM's entry is damaged: how it was is not known any more, so that it must not be
            changed further. Once it is set as it should be, the file can be removed.
        """
        path = self._path(settings.vm_id)
        kept = self._read(path)
        if kept is not None and kept.incarnation == settings.incarnation:
            return kept
        value = {"vm_id": settings.vm_id, "incarnation": settings.incarnation, "values": dict(settings.values)}
        write_json(path, value)
        return settings

    def kept(self) -> tuple[VmSettings, ...]:
        """Every entry that can be read, by name of the VM."""
        try:
            paths = sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be read: {error.strerror}") from error
        entries = []
        for path in paths:
            try:
                entry = self._read(path)
            except StoreError as error:
                self._warn(f"{error}; the other entries are used")
                continue
            if entry is not None:
                entries.append(entry)
        return tuple(sorted(entries, key=lambda entry: entry.vm_id))

    def forget(self, vm_id: str) -> None:
        """Drop a VM's entry; harmless if there is none."""
        path = self._path(vm_id)
        try:
            path.unlink()
            sync_folder(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed: {error.strerror}") from error

    def _path(self, vm_id: str) -> Path:
        name = quote(vm_id, safe=" @+=,", errors="surrogateescape").replace(".", "%2E")
        if len(name) > LONGEST_NAME:
            digest = hashlib.sha256(vm_id.encode("utf-8", "surrogateescape")).hexdigest()[:24]
            name = f"{name[: LONGEST_NAME - 25]}-{digest}"
        return self.folder / f"{name}.json"

    def _read(self, path: Path) -> VmSettings | None:
        found = read_json(path)
        if found is None:
            return None
        fields = found if isinstance(found, dict) else {}
        vm_id, incarnation, values = (fields.get(key) for key in ("vm_id", "incarnation", "values"))
        if not isinstance(vm_id, str) or not isinstance(incarnation, str) or not isinstance(values, dict):
            raise StoreError(f"{path}: is damaged: it is not an entry of a VM")
        return VmSettings(vm_id, incarnation, values)
