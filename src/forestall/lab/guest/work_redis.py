"""The guest of redis: a cache that writes what it is told to an append-only file. Who uses it comes from outside."""

from __future__ import annotations

import os
from pathlib import Path

from forestall.lab.guest.worker import told_port

FOLDER = Path("/var/lib/redis")
SETTINGS = {
    "bind": "0.0.0.0",
    "protected-mode": "no",
    "dir": str(FOLDER),
    "appendonly": "yes",
    "appendfsync": "everysec",
    "auto-aof-rewrite-min-size": "96mb",
    "rdbcompression": "no",
    "save": "",
    "maxmemory": "260mb",
    "maxmemory-policy": "allkeys-lru",
    "logfile": "/var/tmp/redis.log",
}


def main() -> None:
    """Become the server."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | {"port": str(told_port())}
    options = [word for key, value in settings.items() for word in (f"--{key}", value)]
    os.execv("/usr/bin/redis-server", ["redis-server", *options])


if __name__ == "__main__":
    main()
