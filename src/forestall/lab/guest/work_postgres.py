"""The guest of PostgreSQL: a database that others use over the network, with the orders that they leave in it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from forestall.lab.guest.worker import told_port

PROGRAM, DATA = "/usr/lib/postgresql/15/bin/postgres", "/var/lib/postgresql/15/main"
OWNER = "postgres"
SETTINGS_FILE, ACCESS_FILE = Path("/run/postgresql.conf"), Path("/run/pg_hba.conf")
ACCESS = "local all all trust\nhost all all 10.77.0.0/16 trust\n"
SETTINGS = {
    "hba_file": str(ACCESS_FILE),
    "listen_addresses": "*",
    "unix_socket_directories": "/tmp",
    "ssl": "off",
    "jit": "off",
    "shared_buffers": "64MB",
    "max_connections": "20",
    "checkpoint_timeout": "60s",
    "max_wal_size": "96MB",
    "log_min_messages": "warning",
}


def main() -> None:
    """Become the server, as its own user."""
    ACCESS_FILE.write_text(ACCESS)
    settings = SETTINGS | {"port": str(told_port())}
    SETTINGS_FILE.write_text("".join(f"{key} = '{value}'\n" for key, value in settings.items()))
    owner = pwd.getpwnam(OWNER)
    os.setgroups([])
    os.setgid(owner.pw_gid)
    os.setuid(owner.pw_uid)
    os.execv(PROGRAM, [PROGRAM, "-D", DATA, "-c", f"config_file={SETTINGS_FILE}"])


if __name__ == "__main__":
    main()
