"""Reading how switches are connected, from the file of ``[fabric] topology``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forestall.model.errors import BadInput

MOST_BYTES = 64 << 20
NamedCable = tuple[str, str, str, str]


def load_cables(path: Path) -> list[NamedCable]:
    """Switch, its port, the other switch and its port, of each link, by the names that Open vSwitch has for them.

    Raises
    ------
    BadInput
        The file cannot be read or understood; the text says where.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"is larger than {MOST_BYTES} bytes", path=path)
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", path=path) from error
    links = document.get("edges", document.get("links")) if isinstance(document, dict) else None
    if not isinstance(links, list) or not links:
        raise BadInput("has no list 'edges', or an empty one", path=path)
    return [_cable(path, k, link) for k, link in enumerate(links)]


def _cable(path: Path, k: int, link: Any) -> NamedCable:
    def name(key: str) -> str:
        value = link.get(key) if isinstance(link, dict) else None
        if not isinstance(value, str) or not value:
            raise BadInput(f"link {k}: {key} must be a name, not {value!r}", path=path)
        return value

    return name("source"), name("source_port"), name("target"), name("target_port")
