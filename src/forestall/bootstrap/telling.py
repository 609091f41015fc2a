"""Lines for the operator, on standard error: for people, or where ``FORESTALL_LOG`` is ``json`` for programs.

Needs the standard library only: it is there before anything else, and tells of what goes wrong with the rest.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

LOG, JSON = "FORESTALL_LOG", "json"


def tell(line: str, level: str = "info") -> None:
    """Say one line."""
    text = _as_json(level, line) if os.environ.get(LOG) == JSON else f"forestall: {line}"
    print(text, file=sys.stderr, flush=True)


def tell_what_is_logged() -> None:
    """Have what parts and libraries log (warnings, and worse) told in the same way."""
    if os.environ.get(LOG) == JSON:
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            about["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return _as_json(record.levelname.lower(), record.getMessage(), at=record.created, **about)


def _as_json(level: str, line: str, *, at: float | None = None, **about: Any) -> str:
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    said = {"at": moment.isoformat(timespec="milliseconds"), "level": level, "command": command, "pid": os.getpid()}
    return json.dumps({**said, "message": line, **about})
