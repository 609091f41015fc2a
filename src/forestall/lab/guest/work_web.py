"""The web guest: nginx with static files, and a small application behind it that keeps a session for each visitor."""

from __future__ import annotations

import os
import subprocess
import time
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from forestall.lab.guest.worker import told_port

SITE = Path("/srv/site")
FILE_KIB = (2, 8, 32, 128)
"""Sizes of the static files, which are called ``2.bin`` and so on; visitors know them."""
SESSION_BYTES, SESSION_SECONDS = 512 * 1024, 40.0
PRODUCTS = 150
SHOP_PORTS = (8000, 8001)
"""Where the application is; the second where the guest itself serves at the first."""
NGINX = """
worker_processes 1;
daemon off;
pid /run/nginx.pid;
error_log /var/tmp/nginx.error.log;
events { worker_connections 256; }
http {
    access_log /var/tmp/nginx.access.log;
    client_body_temp_path /var/tmp/nginx.body;
    sendfile on;
    server {
        listen PORT;
        root /srv/site;
        location /shop { proxy_pass http://127.0.0.1:SHOP; }
    }
}
"""


class Shop(BaseHTTPRequestHandler):
    """Answers with a page made for the visitor, and remembers him for a while."""

    sessions: dict[int, tuple[float, bytearray]] = {}  # noqa: RUF012 - one for all requests
    visitors = 0

    def do_GET(self) -> None:
        """Open a session, forget the old ones, and show the products."""
        now = time.monotonic()
        Shop.visitors += 1
        for number, (opened_at, _) in list(self.sessions.items()):
            if now - opened_at < SESSION_SECONDS:
                break  # the others are newer
            del self.sessions[number]
        memory = bytearray(SESSION_BYTES)
        memory[::4096] = b"x" * len(memory[::4096])
        self.sessions[Shop.visitors] = (now, memory)
        rows = "".join(f"<tr><td>{zlib.crc32(b'%d' % i)}<td>{i * now:.2f}" for i in range(PRODUCTS))
        page = zlib.compress(f"<table>{rows}</table>".encode() * 4)
        self.send_response(200)
        self.send_header("Content-Encoding", "deflate")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Nginx keeps the log."""


def main() -> None:
    """Start nginx, and be the application."""
    SITE.mkdir(parents=True, exist_ok=True)
    for size in FILE_KIB:
        (SITE / f"{size}.bin").write_bytes(os.urandom(size * 1024))
    for folder in ("/var/log/nginx", "/var/lib/nginx"):
        os.makedirs(folder, exist_ok=True)
    configuration = Path("/var/tmp/nginx.conf")
    port = told_port()
    shop = SHOP_PORTS[port == SHOP_PORTS[0]]
    configuration.write_text(NGINX.replace("PORT", str(port)).replace("SHOP", str(shop)))
    nginx = subprocess.Popen(["/usr/sbin/nginx", "-c", str(configuration)])
    try:
        HTTPServer(("127.0.0.1", shop), Shop).serve_forever()
    finally:
        nginx.terminate()
        nginx.wait()


if __name__ == "__main__":
    main()
